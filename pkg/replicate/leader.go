package replicate

import (
	"context"
	"sync"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// leader is the Primary that this node follows or is. Its methods may be called
// concurrently.
type leader struct {
	mu    sync.Mutex
	node  elect.NodeID // 0 for none
	epoch sqllog.Epoch
	more  chan struct{} // closed when it changes
}

func (l *leader) init() { l.more = make(chan struct{}) }

func (l *leader) set(n elect.NodeID, e sqllog.Epoch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.node, l.epoch = n, e
	close(l.more)
	l.more = make(chan struct{})
}

// clear forgets the Primary of an epoch.
func (l *leader) clear(e sqllog.Epoch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch == e {
		l.node = 0
	}
}

func (l *leader) get() (n elect.NodeID, e sqllog.Epoch, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.node, l.epoch, l.more
}

// await gives the Primary once there is one of another epoch than not, or ctx's
// error.
func (l *leader) await(ctx context.Context, not sqllog.Epoch) (elect.NodeID, sqllog.Epoch, error) {
	for {
		n, e, more := l.get()
		if n != 0 && e != not {
			return n, e, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
}
