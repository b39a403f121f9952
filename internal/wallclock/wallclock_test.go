package wallclock

import (
	"testing"
	"time"
)

// TestShift: the wall clock is off, the monotonic one is not.
func TestShift(t *testing.T) {
	var c Clock
	for _, by := range []time.Duration{0, time.Hour, -time.Hour, -24 * time.Hour} {
		before := time.Now()
		c.Set(by)
		now := c.Now()
		if passed := now.Sub(before); passed < 0 || passed > time.Minute {
			t.Errorf("%s off: %s have passed", by, passed)
		}
		if off := now.Round(0).Sub(before.Round(0)); (off-by).Abs() > time.Minute || c.Off() != by {
			t.Errorf("the wall clock is off by %s, want %s", off, by)
		}
	}
}
