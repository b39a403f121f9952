// Package wallclock lets tests have a wall clock that is off, as a clock is that somebody has set: times that it gives
// differ in what they say of the day, and not in what time.Time.Sub says of two of them.
package wallclock

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// Clock is the system's clock with the wall clock off. Its zero value is right. Its methods may be called concurrently.
type Clock struct{ seconds atomic.Int64 }

// Set has the wall clock off by whole seconds from now on.
func (c *Clock) Set(by time.Duration) { c.seconds.Store(int64(by / time.Second)) }

// Off is by how much the wall clock is off.
func (c *Clock) Off() time.Duration { return time.Duration(c.seconds.Load()) * time.Second }

// Now is time.Now.
func (c *Clock) Now() time.Time { return shift(time.Now(), c.seconds.Load()) }

// layout is how package time keeps a time of time.Now: in wall, a bit that says so, 33 bits of seconds since 1885 and 30 of
// nanoseconds; in ext the monotonic clock. TestShift would notice another one.
type layout struct {
	wall uint64
	ext  int64
	loc  *time.Location
}

const nanosecondBits = 30

func shift(t time.Time, seconds int64) time.Time {
	(*layout)(unsafe.Pointer(&t)).wall += uint64(seconds) << nanosecondBits
	return t
}
