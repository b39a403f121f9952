package object_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// faulty is a store whose Put does something else.
type faulty struct {
	*object.Memory
	put func(m *object.Memory, key string, body []byte, cond object.Condition) (string, error)
}

// Put implements object.Store.
func (f faulty) Put(_ context.Context, key string, body []byte, cond object.Condition) (string, error) {
	return f.put(f.Memory, key, body, cond)
}

func TestProbeNamesWhatIsIgnored(t *testing.T) {
	ctx := t.Context()
	for _, test := range []struct {
		want string
		put  func(m *object.Memory, key string, body []byte, cond object.Condition) (string, error)
	}{
		{"If-None-Match on an object that exists", func(m *object.Memory, key string, body []byte, cond object.Condition) (string, error) {
			return m.Put(ctx, key, body, object.Condition{IfVersion: cond.IfVersion})
		}},
		{"If-Match with the ETag of an older content", func(m *object.Memory, key string, body []byte, cond object.Condition) (string, error) {
			return m.Put(ctx, key, body, object.Condition{IfAbsent: cond.IfAbsent})
		}},
		{"If-Match on an object that does not exist", func(m *object.Memory, key string, body []byte, cond object.Condition) (string, error) {
			if _, _, err := m.Get(ctx, key, 0, 0); err != nil {
				cond.IfVersion = ""
			}
			return m.Put(ctx, key, body, cond)
		}},
		{"does not read what was written last", func(m *object.Memory, key string, body []byte, cond object.Condition) (string, error) {
			version, err := m.Put(ctx, key, body, cond)
			if errors.Is(err, object.ErrPrecondition) {
				_, _ = m.Put(ctx, key, body, object.Condition{}) // refused and written all the same
			}
			return version, err
		}},
		{"another ETag", func(m *object.Memory, key string, body []byte, cond object.Condition) (string, error) {
			version, err := m.Put(ctx, key, body, cond)
			return "x" + version, err
		}},
	} {
		memory := object.NewMemory()
		err := object.Probe(ctx, faulty{memory, test.put})
		if !errors.Is(err, object.ErrUnconditional) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
		left(t, memory)
	}
}

// left ends the test if objects are left.
func left(t *testing.T, s object.Store) {
	t.Helper()
	if err := s.List(t.Context(), "", "", func(i object.Info) error { return errors.New(i.Key) }); err != nil {
		t.Errorf("left behind: %v", err)
	}
}

// TestProbeFindsCheckThenAct has a store that looks first and writes later, as if nobody else did.
func TestProbeFindsCheckThenAct(t *testing.T) {
	ctx := t.Context()
	var looked sync.WaitGroup
	looked.Add(2)
	var mu sync.Mutex
	racers := 0
	memory := object.NewMemory()
	err := object.Probe(ctx, faulty{memory, func(m *object.Memory, key string, body []byte, cond object.Condition) (string, error) {
		if !strings.HasSuffix(key, "-race") {
			return m.Put(ctx, key, body, cond)
		}
		mu.Lock()
		racers++
		early := racers <= 2
		mu.Unlock()
		if early {
			looked.Done()
			looked.Wait()
			return m.Put(ctx, key, body, object.Condition{})
		}
		return "", object.ErrPrecondition
	}})
	if !errors.Is(err, object.ErrUnconditional) || !strings.Contains(err.Error(), "at the same time") {
		t.Fatal(err)
	}
	left(t, memory)
}

func TestProbeReturnsErrorsOfRequests(t *testing.T) {
	for _, op := range []object.Op{object.OpGet, object.OpList, object.OpPut, object.OpDelete} {
		memory := object.NewMemory()
		memory.Before = func(o object.Op, _ string) error {
			if o == op {
				return object.ErrUnavailable
			}
			return nil
		}
		err := object.Probe(t.Context(), memory)
		if !errors.Is(err, object.ErrUnavailable) || errors.Is(err, object.ErrUnconditional) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// TestProbeBearsRepeatedRequests: a network that delivers each write twice shows the answer of the second one.
func TestProbeBearsRepeatedRequests(t *testing.T) {
	ctx := t.Context()
	memory := object.NewMemory()
	err := object.Probe(ctx, faulty{memory, func(m *object.Memory, key string, body []byte, cond object.Condition) (string, error) {
		_, _ = m.Put(ctx, key, body, cond)
		return m.Put(ctx, key, body, cond)
	}})
	if err != nil {
		t.Error(err)
	}
	left(t, memory)
}

// TestProbeNamesWritesThatAreNeverLetThrough: a store may refuse conditions that hold.
func TestProbeNamesWritesThatAreNeverLetThrough(t *testing.T) {
	ctx := t.Context()
	for _, refused := range []func(object.Condition) bool{
		func(c object.Condition) bool { return c.IfAbsent },
		func(c object.Condition) bool { return c.IfVersion != "" },
	} {
		memory := object.NewMemory()
		err := object.Probe(ctx, faulty{memory, func(m *object.Memory, key string, body []byte, cond object.Condition) (string, error) {
			if refused(cond) {
				return "", object.ErrPrecondition
			}
			return m.Put(ctx, key, body, cond)
		}})
		if !errors.Is(err, object.ErrUnconditional) || !strings.Contains(err.Error(), "whose condition holds is refused") {
			t.Errorf("the probe says %v", err)
		}
		left(t, memory)
	}
}
