package s3snap

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootClock is the time since boot, suspend included; false where the system
// has no such clock.
func bootClock() (time.Duration, bool) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, false
	}
	return time.Duration(ts.Nano()), true
}
