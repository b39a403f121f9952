package replicate

import (
	"context"
	"errors"
	"sync"
)

// role is what a node is for a time: run returns when the role has ended and
// everything of it is undone, at the latest soon after ctx has.
type role interface {
	run(ctx context.Context)
}

// idle is a Replica that hears no Primary.
type idle struct{}

func (idle) run(ctx context.Context) { <-ctx.Done() }

// errRoleEnded is the cause with which a role's context ends.
var errRoleEnded = errors.New("role has ended")

// roles runs one role at a time: the newest that was set.
type roles struct {
	mu     sync.Mutex
	next   role // nil if nothing new was set
	cancel context.CancelCauseFunc
	wake   chan struct{} // size one
}

func newRoles() *roles { return &roles{next: idle{}, wake: make(chan struct{}, 1)} }

// set makes r the role. It does not block: the one before is being ended.
func (s *roles) set(r role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = r
	if s.cancel != nil {
		s.cancel(errRoleEnded)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run runs roles until ctx ends.
func (s *roles) run(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		r := s.next
		s.next = nil
		roleCtx, cancel := context.WithCancelCause(ctx)
		s.cancel = cancel
		s.mu.Unlock()
		if r != nil {
			r.run(roleCtx)
		}
		s.mu.Lock()
		s.cancel = nil
		waiting := s.next == nil
		s.mu.Unlock()
		cancel(errRoleEnded)
		if waiting {
			select {
			case <-s.wake:
			case <-ctx.Done():
			}
		}
	}
}
