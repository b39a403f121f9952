package differential

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// shrinker looks for a small sequence that ends in a difference.
type shrinker struct {
	t        *testing.T
	deadline time.Time
	fresh    chan *runner // pairs of servers, started ahead of need
	best     []op         // ends in a difference
	diff     string
	tries    int
}

// shrink cuts a sequence that ends in a difference down, for at most d, and describes what is left.
func shrink(t *testing.T, ops []op, d time.Duration) string {
	if d <= 0 {
		return "not shrunk"
	}
	s := &shrinker{t: t, deadline: time.Now().Add(d), best: ops, fresh: make(chan *runner)}
	stop := s.startServers()
	defer stop()
	if last := lastReset(s.best); last > 0 {
		s.try(s.best[last+1:])
	}
	s.dropOps()
	s.dropParts()
	if s.diff == "" {
		return fmt.Sprintf("no smaller sequence found in %d tries; the difference may depend on time", s.tries)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "shrunk to %d operations in %d tries:\n", len(s.best), s.tries)
	for i, o := range s.best {
		if len(s.best)-i <= 60 {
			fmt.Fprintf(&b, "%4d %v\n", i, o)
		}
	}
	return b.String() + s.diff
}

// startServers keeps a pair of servers ready: starting them takes longer than using them.
func (s *shrinker) startServers() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			r, err := newCompactedRunner(s.t)
			if err != nil {
				s.t.Logf("shrinking ends: %v", err)
				r.close()
				close(s.fresh)
				return
			}
			select {
			case s.fresh <- r:
			case <-quit:
				r.close()
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

// try replays a sequence on fresh servers. If it shows a difference it becomes the best, up to there.
func (s *shrinker) try(ops []op) bool {
	if time.Now().After(s.deadline) {
		return false
	}
	r, ok := <-s.fresh
	if !ok {
		return false
	}
	s.tries++
	defer r.close()
	for i, o := range ops {
		if err := r.do(o); err != nil {
			s.best, s.diff = ops[:i+1:i+1], err.Error()
			return true
		}
	}
	return false
}

// dropOps leaves operations out, many at first, then one by one.
func (s *shrinker) dropOps() {
	for size := len(s.best) / 2; size > 0; size /= 2 {
		for end := len(s.best) - 1; end > 0 && time.Now().Before(s.deadline); end -= size {
			end = min(end, len(s.best)-1)
			from := max(end-size, 0)
			s.try(append(append([]op{}, s.best[:from]...), s.best[end:]...))
		}
	}
}

// dropParts leaves compares and operations of Txns out.
func (s *shrinker) dropParts() {
	for i := len(s.best) - 1; i >= 0; i-- {
		t, ok := s.best[i].req.(*pb.TxnRequest)
		for n := 0; ok && n < parts(t); {
			ops := append([]op{}, s.best...)
			smaller := proto.Clone(t).(*pb.TxnRequest)
			dropPart(smaller, n)
			ops[i].req = smaller
			if !s.try(ops) {
				n++
			}
			if len(s.best) <= i || time.Now().After(s.deadline) {
				break
			}
			t = s.best[i].req.(*pb.TxnRequest)
		}
	}
}

// parts counts the compares and operations of a Txn.
func parts(t *pb.TxnRequest) int { return len(t.Compare) + len(t.Success) + len(t.Failure) }

// dropPart removes part n of a Txn.
func dropPart(t *pb.TxnRequest, n int) {
	c, s := len(t.Compare), len(t.Success)
	switch {
	case n < c:
		t.Compare = append(t.Compare[:n:n], t.Compare[n+1:]...)
	case n < c+s:
		t.Success = append(t.Success[:n-c:n-c], t.Success[n-c+1:]...)
	default:
		t.Failure = append(t.Failure[:n-c-s:n-c-s], t.Failure[n-c-s+1:]...)
	}
}

// lastReset returns the index of the reset before the last operation, or 0.
func lastReset(ops []op) int {
	for i := len(ops) - 2; i > 0; i-- {
		if ops[i].kind == kindReset {
			return i
		}
	}
	return 0
}
