package s3snap

import "time"

var processStart = time.Now()

// BootClock is the time since boot, suspend included, or, where the system has no such
// clock, since the process began, perhaps without.
func BootClock() time.Duration {
	if now, ok := bootClock(); ok {
		return now
	}
	return time.Since(processStart)
}
