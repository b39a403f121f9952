package s3snap

import (
	"context"
	"time"
)

// The pace of a snapshot that a running node takes. On two processors work in the
// background that never rests is felt by every write.
const (
	// paceStep is after how much work there is a rest. What cannot be divided, such
	// as reading one page of the log, may make a step longer.
	paceStep = time.Millisecond
	// paceRest is how many times as long as a step the rest after it is: a snapshot
	// takes so much longer than it has to, and no more.
	paceRest = 3
	// paceMost is the longest rest. In a longer step object storage was waited for.
	paceMost = 50 * time.Millisecond
)

// pace divides work into steps with rests between them. A nil pace is that of work
// that somebody waits for: it never rests. It is used by one goroutine at a time.
type pace struct {
	now   func() time.Time
	rest  func(ctx context.Context, d time.Duration) error // returns early, with an error, if ctx ends
	began time.Time                                        // of the step under way
}

// newPace gives the pace of work that begins now.
func newPace() *pace {
	return &pace{now: time.Now, rest: rest, began: time.Now()}
}

// begin notes that work begins. What was before it is not part of a step.
func (p *pace) begin() {
	if p != nil {
		p.began = p.now()
	}
}

// step is called between two pieces of work, the more often the better. It rests if
// enough was done, and fails only if ctx ends meanwhile.
func (p *pace) step(ctx context.Context) error {
	if p == nil {
		return nil
	}
	took := p.now().Sub(p.began)
	if took < paceStep {
		return nil
	}
	err := p.rest(ctx, min(paceRest*took, paceMost))
	p.began = p.now()
	return err
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
