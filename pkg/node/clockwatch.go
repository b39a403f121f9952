package node

import (
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/s3snap"
)

// How far the wall clock may be off before it is told: what it may move by itself between two looks, and what it may
// differ from that of object storage, which gives seconds.
const (
	clockJump = time.Second
	clockSkew = 5 * time.Second
)

// clockWatch tells when the wall clock of this node cannot be right. No election, lease or commit depends on it: what
// does is when a row was written (kinsy restore --time), the retention of snapshots by age, and whether a certificate is
// valid. Its methods may be called concurrently.
type clockWatch struct {
	wall    func() time.Time
	elapsed func() time.Duration // since some moment, during suspend too
	log     *logrus.Logger

	mu sync.Mutex
	at time.Duration // of the last look
	is time.Time     // what the wall clock said then
}

func newClockWatch(log *logrus.Logger) *clockWatch {
	return &clockWatch{wall: time.Now, elapsed: s3snap.BootClock, log: log}
}

// look compares how far the wall clock has moved since the last look with the time that has passed.
func (c *clockWatch) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, is := c.elapsed(), c.wall().Round(0) // without the monotonic clock
	by := is.Sub(c.is) - (at - c.at)
	known := !c.is.IsZero()
	c.at, c.is = at, is
	if known && by.Abs() > clockJump {
		c.log.WithField("by", by.Round(time.Millisecond)).Warn("wall clock has jumped")
	}
}

// compare takes when object storage says that something was written, which was between two readings of the wall clock.
func (c *clockWatch) compare(before, after, written time.Time) {
	if written.IsZero() {
		return
	}
	by := max(before.Round(0).Sub(written), 0) + min(after.Round(0).Sub(written), 0)
	if by.Abs() > clockSkew {
		c.log.WithField("by", by.Round(time.Second)).Warn("wall clock is off, compared with that of object storage")
	}
}
