package replicate

import (
	"context"
	"sync"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// threshold holds those back who wait for a row. Its methods may be called concurrently.
type threshold struct {
	mu   sync.Mutex
	id   sqllog.ID
	more chan struct{} // closed when id has moved; nil while nobody waits
}

// open lets those pass who wait for a row up to an id.
func (t *threshold) open(id sqllog.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id > t.id {
		t.id = id
		if t.more != nil {
			close(t.more)
			t.more = nil
		}
	}
}

// wait returns nil once the threshold is open for a row, or ctx's cause.
func (t *threshold) wait(ctx context.Context, id sqllog.ID) error {
	for {
		t.mu.Lock()
		if t.id >= id {
			t.mu.Unlock()
			return nil
		}
		if t.more == nil {
			t.more = make(chan struct{})
		}
		more := t.more
		t.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
