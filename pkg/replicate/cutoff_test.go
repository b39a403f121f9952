package replicate

import (
	"strings"
	"testing"
)

// TestHealthOfAPrimaryThatIsCutOff: it says soon that it may be none any more, and says
// nothing else until it is in step with the next one.
func TestHealthOfAPrimaryThatIsCutOff(t *testing.T) {
	w := newWorld(t)
	a, _, _ := w.trio()
	if st := a.m.Status(); !st.Healthy {
		t.Fatalf("before: %v", st.Errors)
	}
	a.store.down(true)
	w.isolate(a, true)
	var st Status
	w.eventually("the primary to notice", func() bool { st = a.m.Status(); return !st.Healthy })
	if text := strings.Join(st.Errors, "; "); !strings.Contains(text, "1 of 3 voters answer") {
		t.Errorf("it says %q", text)
	}
	p := w.primary(a)
	p.put("key", "value")
	a.store.down(false)
	w.isolate(a, false)
	w.eventually("health", func() bool { return a.m.Status().Healthy })
	if !a.follows(w.primary()) || a.leads() {
		t.Error("it is healthy before it follows")
	}
}

// TestHealthOfAPrimaryByObjectStorage: without the others it is healthy while object
// storage says that it is the Primary, and commits.
func TestHealthOfAPrimaryByObjectStorage(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	b.stop()
	c.stop()
	w.eventually("the loss", func() bool {
		return !a.m.control.answers(b.id, testSuspicion) && !a.m.control.answers(c.id, testSuspicion)
	})
	a.put("key", "value")
	for range 20 {
		if st := a.m.Status(); !st.Healthy {
			t.Fatalf("it is not healthy: %v", st.Errors)
		}
	}
	a.store.down(true)
	w.eventually("its end", func() bool { return !a.m.Status().Healthy })
	a.store.down(false)
	w.eventually("its return", func() bool { return a.m.Status().Healthy })
}
