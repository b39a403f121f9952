package s3snap

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// simNet is one prefix between the nodes of a simulation and the truth about it.
// What happens to a request is drawn from the seed, the node, the request and how
// often the node has made it, so that it does not depend on who runs first.
type simNet struct {
	seed  uint64
	rate  float64 // of requests that something happens to
	mem   *object.Memory
	truth *simTruth
	calm  atomic.Bool     // nothing happens any more
	doze  chan<- struct{} // a node that falls asleep says so here; nil: none does
	late  sync.WaitGroup

	mu    sync.Mutex
	tries map[string]int
}

// simStore is the prefix as one life of one node sees it.
type simStore struct {
	net     *simNet
	name    string
	crashed chan struct{}

	mu  sync.Mutex
	cut time.Time // no request is answered before
	nap time.Time // the node sleeps until then: what is on its way stays there
}

var _ object.Store = (*simStore)(nil)

// Times of a simulation. A hung request ends as one of a real store does.
const (
	simTimeout = 4 * time.Second
	simMinAge  = 20 * time.Second
)

// simFate is what happens to a request.
type simFate struct {
	before, after time.Duration
	lost          bool          // it never arrives
	late          time.Duration // it arrives that much later than it is given up
	noAnswer      bool          // it takes effect and is not answered
}

func (n *simNet) store(name string) *simStore {
	return &simStore{net: n, name: name, crashed: make(chan struct{})}
}

// random is a source of its own for each use.
func (n *simNet) random(what ...any) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, what...)
	return rand.New(rand.NewPCG(n.seed, h.Sum64()))
}

func (s *simStore) fate(op object.Op, key string) (f simFate) {
	if strings.HasPrefix(key, object.ProbePrefix) {
		key = object.ProbePrefix // their names are random
	}
	if strings.HasSuffix(key, rowsSuffix) {
		key = key[:len(snapshotPrefix)+20]
	}
	what := fmt.Sprint(s.name, op, key)
	s.net.mu.Lock()
	s.net.tries[what]++
	r := s.net.random(what, s.net.tries[what])
	s.net.mu.Unlock()
	f.before, f.after = time.Millisecond+span(r, 20*time.Millisecond), time.Millisecond+span(r, 20*time.Millisecond)
	rate := s.net.rate
	if key == object.ProbePrefix {
		rate /= 8 // a start makes dozens of these
	}
	if op == object.OpPut && strings.HasPrefix(key, chunkPrefix) && r.IntN(8) == 0 {
		s.fallAsleep(simTimeout/2 + span(r, simTimeout/2))
	}
	if s.net.calm.Load() || r.Float64() >= rate {
		return f
	}
	switch r.IntN(5) {
	case 0:
		f.lost = true
	case 1:
		f.noAnswer = true
	case 2:
		f.lost, f.late = true, span(r, 3*time.Second)
	case 3:
		f.lost, f.late = true, span(r, 3*simMinAge)
	case 4:
		f.before += span(r, 6*time.Second)
	}
	return f
}

var errSimLost = fmt.Errorf("%w: no answer", object.ErrUnavailable)

// partition keeps every request from being answered for a time.
func (s *simStore) partition(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = time.Now().Add(d)
}

func (s *simStore) partitioned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.net.calm.Load() && time.Now().Before(s.cut)
}

// fallAsleep lets the node sleep with a request under way, and tells those who may
// take over.
func (s *simStore) fallAsleep(d time.Duration) {
	if s.net.doze == nil || s.net.calm.Load() {
		return
	}
	s.net.truth.count(&s.net.truth.stats.naps, 1)
	s.mu.Lock()
	s.nap = time.Now().Add(d)
	s.mu.Unlock()
	for {
		select {
		case s.net.doze <- struct{}{}:
		default:
			return
		}
	}
}

// asleep is how long the node will not wake.
func (s *simStore) asleep() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(time.Until(s.nap), 0)
}

// wait passes time on a request's way.
func (s *simStore) wait(ctx context.Context, d time.Duration) error {
	d += s.asleep()
	if d > simTimeout {
		d = simTimeout
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		if d == simTimeout {
			return errSimLost
		}
		return nil
	case <-s.crashed:
		return errSimLost
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do takes a request there and back. What effect does may happen after do has
// returned, or never.
func (s *simStore) do(ctx context.Context, op object.Op, key string, effect func() error) error {
	f := s.fate(op, key)
	if s.partitioned() && !f.lost {
		f.lost = true
	}
	onTheWay := s.wait(ctx, f.before)
	if onTheWay == nil && f.lost {
		onTheWay = s.wait(ctx, simTimeout)
	}
	if onTheWay != nil {
		if f.late > 0 && !s.net.calm.Load() {
			s.net.late.Go(func() {
				time.Sleep(f.late)
				_ = effect()
			})
		}
		return onTheWay
	}
	err := effect()
	if f.noAnswer {
		return s.orLost(s.wait(ctx, simTimeout))
	}
	if back := s.wait(ctx, f.after); back != nil {
		return back
	}
	return err
}

func (s *simStore) orLost(err error) error {
	if err == nil {
		return errSimLost
	}
	return err
}

// result is what an effect has given; effects may come after it is looked at.
type result[T any] struct {
	mu    sync.Mutex
	value T
}

func (r *result[T]) set(v T) {
	r.mu.Lock()
	r.value = v
	r.mu.Unlock()
}

func (r *result[T]) get() T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.value
}

// Get implements object.Store.
func (s *simStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, object.Info, error) {
	var out result[[]byte]
	var info result[object.Info]
	err := s.do(ctx, object.OpGet, key, func() error {
		body, i, err := s.net.read(key, offset, length)
		out.set(body)
		info.set(i)
		return err
	})
	if err != nil {
		return nil, object.Info{}, err
	}
	return io.NopCloser(strings.NewReader(string(out.get()))), info.get(), nil
}

func (n *simNet) read(key string, offset, length int64) ([]byte, object.Info, error) {
	src, info, err := n.mem.Get(context.Background(), key, offset, length)
	if err != nil {
		return nil, info, err
	}
	body, err := io.ReadAll(src)
	return body, info, errors.Join(err, src.Close())
}

// List implements object.Store. It may break off.
func (s *simStore) List(ctx context.Context, prefix, after string, fn func(object.Info) error) error {
	var out result[[]object.Info]
	err := s.do(ctx, object.OpList, prefix+after, func() error {
		var all []object.Info
		err := s.net.mem.List(context.Background(), prefix, after, func(i object.Info) error {
			all = append(all, i)
			return nil
		})
		out.set(all)
		return err
	})
	all := out.get()
	if err != nil {
		all = all[:len(all)/2]
	}
	for _, i := range all {
		if err := fn(i); err != nil {
			return err
		}
	}
	return err
}

// Put implements object.Store.
func (s *simStore) Put(ctx context.Context, key string, body []byte, cond object.Condition) (string, error) {
	var version result[string]
	err := s.do(ctx, object.OpPut, key, func() error {
		v, err := s.net.put(key, body, cond)
		version.set(v)
		return err
	})
	if err != nil {
		return "", err
	}
	return version.get(), nil
}

// put writes an object and tells the truth about it, as one step.
func (n *simNet) put(key string, body []byte, cond object.Condition) (string, error) {
	n.truth.mu.Lock()
	defer n.truth.mu.Unlock()
	v, err := n.mem.Put(context.Background(), key, body, cond)
	if err == nil && strings.HasPrefix(key, chunkPrefix) {
		floor, _, floorErr := readFloor(context.Background(), n.mem)
		n.truth.createdLocked(key, body, floor, floorErr)
	}
	return v, err
}

// Upload implements object.Store. It takes its time when it has begun to read.
func (s *simStore) Upload(ctx context.Context, key string, r io.Reader) (object.Info, error) {
	begin := make([]byte, 1)
	if _, err := io.ReadFull(r, begin); err != nil {
		return object.Info{}, err
	}
	if err := s.wait(ctx, 50*s.fate(object.OpUpload, key).before); err != nil {
		return object.Info{}, err
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		return object.Info{}, err
	}
	body := append(begin, rest...)
	var info result[object.Info]
	err = s.do(ctx, object.OpUpload, key, func() error {
		i, err := s.net.mem.Upload(context.Background(), key, strings.NewReader(string(body)))
		info.set(i)
		return err
	})
	return info.get(), err
}

// Delete implements object.Store.
func (s *simStore) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		err := s.do(ctx, object.OpDelete, key, func() error { return s.net.mem.Delete(context.Background(), key) })
		if err != nil {
			return err
		}
	}
	return nil
}

// span is a random duration below d.
func span(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }
