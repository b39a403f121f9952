package s3

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/object/objecttest"
	"github.com/kinsy/kinsy/test/harness/faultproxy"
)

// TestConformance runs the suite of all object stores on the server, without and with client-side encryption.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"plain": "", "encrypted": newKey("k")} {
		t.Run(name, func(t *testing.T) {
			var file string
			if key != "" {
				file = keyFile(t, key)
			}
			w := newWorld(t)
			var opened atomic.Int64
			objecttest.Run(t, func(t *testing.T) object.Store {
				c := w.config(server.URL(), file)
				c.URL += fmt.Sprintf("/%d", opened.Add(1))
				s, err := object.Open(t.Context(), c)
				ok(t, err)
				t.Cleanup(func() {
					if err := object.Close(s); err != nil {
						t.Error(err)
					}
				})
				return s
			})
		})
	}
}

// TestProbePasses probes the server directly and through faults that a client must bear or name.
func TestProbePasses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, err := object.Open(t.Context(), w.config(w.proxy.URL(), ""))
	ok(t, err)
	defer object.Close(s)
	ok(t, object.Probe(t.Context(), s))
	left, err := list(t.Context(), s, "")
	ok(t, err)
	if len(left) > 0 {
		t.Errorf("the probe has left %v", left)
	}
	w.proxy.Set(faultproxy.Outage())
	if err := object.Probe(t.Context(), s); !errors.Is(err, object.ErrUnavailable) || errors.Is(err, object.ErrUnconditional) {
		t.Errorf("a probe of a store that is down says %v", err)
	}
	// An answer that comes twice, or not, must not look like a store that ignores conditions.
	for _, fault := range []faultproxy.Fault{faultproxy.Twice, faultproxy.LostAnswer, faultproxy.ErrorAfter, faultproxy.Late} {
		w.proxy.Set(faultproxy.Plan{Chance: map[faultproxy.Fault]float64{fault: 1}, Only: func(r faultproxy.Request) bool { return r.Op == faultproxy.Put }})
		if err := object.Probe(t.Context(), s); errors.Is(err, object.ErrUnconditional) {
			t.Errorf("%s: the probe says %v", fault, err)
		}
	}
}

// TestStoreThatIgnoresConditionsIsRefused takes the conditions away between kinsy and the server. The probe says which
// it was; kinsy does not start.
func TestStoreThatIgnoresConditionsIsRefused(t *testing.T) {
	w := newWorld(t)
	w.proxy.Set(faultproxy.Plan{IgnoreConditions: true})
	s, err := object.Open(t.Context(), w.config(w.proxy.URL(), ""))
	ok(t, err)
	defer object.Close(s)
	if err := object.Probe(t.Context(), s); !errors.Is(err, object.ErrUnconditional) || !strings.Contains(err.Error(), "If-None-Match") {
		t.Errorf("the probe says %v", err)
	}
	requireRefused(t, w.node(quorumStore), "conditional")
}
