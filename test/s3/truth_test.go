package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/process"
)

const (
	// silentLimit is how long no write may be acknowledged while /readyz says 200: 5 s, and the time to notice.
	silentLimit = 6 * time.Second
	// falseLimit is how long /readyz may say so nonetheless: it and the first acknowledgement do not come at once.
	falseLimit = time.Second
	pollEvery  = 50 * time.Millisecond
)

// truth compares /readyz of a node under load with what its clients meet.
type truth struct {
	node    *process.Node
	lastAck func() time.Time

	mu       sync.Mutex
	calm     bool      // nothing is wrong with the store, and the node has recovered
	since    time.Time // when the process was started
	wrong    time.Time // since when 200 is not true
	errs     []error
	good     int // answers with 200
	bad      int // answers with another code
	shutdown context.CancelFunc
	done     chan struct{}
}

// newTruth begins to ask.
func newTruth(ctx context.Context, n *process.Node, lastAck func() time.Time) *truth {
	ctx, cancel := context.WithCancel(ctx)
	v := &truth{node: n, lastAck: lastAck, since: time.Now(), shutdown: cancel, done: make(chan struct{})}
	go func() {
		defer close(v.done)
		for client.Wait(ctx, pollEvery) == nil {
			code, body, err := n.Get("/readyz")
			v.judge(time.Now(), code, body, err)
		}
	}()
	return v
}

// setCalm says whether /readyz must answer 200.
func (v *truth) setCalm(calm bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calm = calm
}

// started says that there is a new process.
func (v *truth) started() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.since, v.wrong = time.Now(), time.Time{}
}

// judge looks at one answer.
func (v *truth) judge(now time.Time, code int, body string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err != nil:
		code, body = 0, err.Error()
	case code == http.StatusOK:
		v.good++
	default:
		v.bad++
	}
	if v.calm && code != http.StatusOK {
		v.errs = append(v.errs, fmt.Errorf("/readyz is %d %q while nothing is wrong", code, body))
	}
	silent := now.Sub(latest(v.lastAck(), v.since))
	if code != http.StatusOK || silent <= silentLimit {
		v.wrong = time.Time{}
		return
	}
	if v.wrong.IsZero() {
		v.wrong = now
	}
	if now.Sub(v.wrong) > falseLimit {
		v.errs = append(v.errs, fmt.Errorf("/readyz is 200, and no write was acknowledged for %s", silent.Round(time.Millisecond)))
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// end stops asking and returns what was not true, the first lies of many.
func (v *truth) end() error {
	v.shutdown()
	<-v.done
	return v.lies()
}

func (v *truth) lies() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.errs) > 5 {
		return fmt.Errorf("%d times: %w", len(v.errs), errors.Join(v.errs[:5]...))
	}
	return errors.Join(v.errs...)
}
