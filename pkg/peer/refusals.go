package peer

import (
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// refusalInterval is how often the same refusal is logged.
const refusalInterval = time.Minute

// maxRefusals bounds how many different refusals are remembered.
const maxRefusals = 64

// refusals logs why nodes were refused, not each time: they try again and again.
type refusals struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (r *refusals) log(logger logrus.FieldLogger, reason error) {
	text, now := reason.Error(), time.Now()
	r.mu.Lock()
	last, known := r.last[text]
	repeated := known && now.Sub(last) < refusalInterval
	if !repeated {
		if r.last == nil || len(r.last) >= maxRefusals {
			r.last = map[string]time.Time{}
		}
		r.last[text] = now
	}
	r.mu.Unlock()
	if !repeated {
		logger.WithError(reason).Warn("peer refused")
	}
}
