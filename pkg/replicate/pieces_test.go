package replicate

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestThreshold(t *testing.T) {
	var th threshold
	th.open(5)
	want(t, "below", th.wait(ctx, 5), nil)
	first, second := call(func() error { return th.wait(ctx, 6) }), call(func() error { return th.wait(ctx, 9) })
	until(t, "a waiter", func() bool {
		th.mu.Lock()
		defer th.mu.Unlock()
		return th.more != nil
	})
	th.open(4) // never back
	th.open(8)
	want(t, "opened", <-first, nil)
	stillWaits(t, "a higher one", second)
	th.open(9)
	want(t, "opened too", <-second, nil)
	canceled, cancel := context.WithCancelCause(ctx)
	cancel(ErrStopped)
	want(t, "a context that has ended", th.wait(canceled, 10), ErrStopped)
	want(t, "what is open already", th.wait(canceled, 9), nil)
}

// fakeRole tells when it runs, and ends when it is told to.
type fakeRole struct {
	began chan context.Context
	end   chan struct{}
}

func newFakeRole() *fakeRole {
	return &fakeRole{began: make(chan context.Context, 1), end: make(chan struct{})}
}

func (r *fakeRole) run(ctx context.Context) {
	r.began <- ctx
	<-r.end
}

func TestRoles(t *testing.T) {
	s := newRoles()
	all, stop := context.WithCancel(ctx)
	over := call(func() error { s.run(all); return nil })
	a, b, c, d := newFakeRole(), newFakeRole(), newFakeRole(), newFakeRole()
	s.set(a)
	first := <-a.began
	s.set(b)
	<-first.Done()
	want(t, "the end of a role", context.Cause(first), errRoleEnded)
	s.set(c) // b is never begun: c came while a was ending
	select {
	case <-c.began:
		t.Fatal("two roles at a time")
	default:
	}
	close(a.end)
	<-c.began
	close(c.end) // by itself
	s.set(d)
	last := <-d.began
	select {
	case <-b.began:
		t.Error("an old role was begun")
	default:
	}
	stop()
	<-last.Done()
	stillWaits(t, "the end", over)
	close(d.end)
	<-over
	s.set(a) // after the end: nothing happens
}

// fakeLock is elector.json.
type fakeLock struct {
	there s3snap.Lock
	err   error
}

func (l *fakeLock) Observe(context.Context) (s3snap.Lock, error) { return l.there, l.err }

func (l *fakeLock) TakeLock(_ context.Context, seen s3snap.Lock) (s3snap.Lock, error) {
	if seen != l.there {
		return s3snap.Lock{}, s3snap.ErrConflict
	}
	l.there = s3snap.Lock{Holder: 1, Seq: l.there.Seq + 1}
	return l.there, l.err
}

func (l *fakeLock) Renew(_ context.Context, held s3snap.Lock) (s3snap.Lock, error) {
	if held != l.there {
		return s3snap.Lock{}, s3snap.ErrConflict
	}
	l.there.Seq++
	return l.there, l.err
}

func TestElectorLock(t *testing.T) {
	store := &fakeLock{}
	l := &electorLock{store: store}
	want(t, "renewing what is not held", l.renew(ctx), nil)
	want(t, "taking a free lock", l.take(ctx, false), nil)
	want(t, "renewing it", l.renew(ctx), nil)
	if store.there.Holder != 1 || store.there.Seq != 2 {
		t.Errorf("the lock is %+v", store.there)
	}
	store.there = s3snap.Lock{Holder: elect.NodeID(2), Seq: 7}
	want(t, "renewing one that another node has taken", l.renew(ctx), s3snap.ErrConflict)
	want(t, "renewing it again", l.renew(ctx), nil)
	want(t, "taking one that is held", l.take(ctx, false), errLocked)
	l.since = time.Now().Add(-lockExpiry)
	store.there.Seq++ // its holder lives
	want(t, "taking one that is renewed", l.take(ctx, false), errLocked)
	l.since = time.Now().Add(-lockExpiry)
	want(t, "taking one that has expired", l.take(ctx, false), nil)
	store.there = s3snap.Lock{Holder: elect.NodeID(2), Seq: 9}
	want(t, "taking one by force", l.take(ctx, true), nil)
	store.err = errors.New("no answer")
	want(t, "taking one that cannot be seen", l.take(ctx, true), store.err)
	want(t, "renewing without an answer", l.renew(ctx), store.err)
}

func TestMayLose(t *testing.T) {
	for _, c := range []struct {
		rule            elect.Rule
		voters, healthy int
		want            bool
	}{
		{elect.Majority, 3, 2, true}, {elect.Majority, 3, 1, false}, {elect.Majority, 2, 1, true}, {elect.Majority, 5, 3, true},
		{elect.Majority, 5, 2, false}, {2, 4, 3, true}, {2, 3, 2, false}, {elect.ObjectStorage, 3, 2, true},
	} {
		members := make([]elect.NodeID, c.voters)
		if got := mayLose(elect.Cluster{Rule: c.rule, Members: members}, c.healthy); got != c.want {
			t.Errorf("rule %d, %d of %d voters healthy: %v", c.rule, c.healthy, c.voters, got)
		}
	}
}

func TestReceiptsCount(t *testing.T) {
	for _, c := range []struct {
		rule   elect.Rule
		voters int
		want   bool
	}{{elect.Majority, 1, true}, {elect.Majority, 2, true}, {elect.ObjectStorage, 3, false}, {1, 1, false}, {1, 2, true}, {2, 2, false}, {2, 3, true}} {
		if got := receiptsCount(elect.Cluster{Rule: c.rule, Members: make([]elect.NodeID, c.voters)}); got != c.want {
			t.Errorf("rule %d, %d voters: %v", c.rule, c.voters, got)
		}
	}
}

func TestMemberRows(t *testing.T) {
	c := elect.Cluster{Members: []elect.NodeID{1, 0xabcdef, 1 << 63}}
	got, err := decodeMembers(encodeMembers(c))
	if err != nil || len(got) != 3 || got[0] != 1 || got[1] != 0xabcdef || got[2] != 1<<63 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "1", "0000000000000000", "0000000000000001,", "0000000000000001;0000000000000002"} {
		if got, err := decodeMembers([]byte(bad)); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

func TestLeader(t *testing.T) {
	var l leader
	l.init()
	waits := call(func() error {
		n, e, err := l.await(ctx, 3)
		if n != 7 || e != 4 {
			t.Errorf("node %d of epoch %d", n, e)
		}
		return err
	})
	l.set(5, 3)
	stillWaits(t, "the next Primary", waits)
	l.set(7, 4)
	want(t, "the next Primary", <-waits, nil)
	l.clear(3) // of an older one
	if n, _, _ := l.get(); n != 7 {
		t.Errorf("the Primary is %d", n)
	}
	l.clear(4)
	if n, e, _ := l.get(); n != 0 || e != sqllog.Epoch(4) {
		t.Errorf("the Primary is %d of epoch %d", n, e)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, _, err := l.await(canceled, 0)
	want(t, "nobody", err, context.Canceled)
}
