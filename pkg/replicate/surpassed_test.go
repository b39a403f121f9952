package replicate

import (
	"strings"
	"sync"
	"testing"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// TestElectorThatDies: an Elector raises the epoch and goes no further, just after a
// node has written its epoch row and before it has settled the rule. The Primary holds
// the election that is missing, else it could never change voters or rule.
func TestElectorThatDies(t *testing.T) {
	w := newWorld(t)
	a := w.add("a").awaitLead()
	a.stop()
	var once sync.Once
	var fenced bool
	a.store.set(func(op object.Op, key string) error {
		switch {
		case op == object.OpPut && strings.HasPrefix(key, "chunks/"):
			fenced = true
		case op == object.OpGet && key == "cluster.json" && fenced:
			once.Do(func() {
				if _, err := s3snap.NewControl(w.memory, 99, 1, quiet()).Raise(ctx, 0, elect.Majority); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	})
	a.start()
	a.awaitLead()
	w.eventually("the epoch in cluster.json to have its Primary", func() bool {
		_, e := a.m.role()
		return a.leads() && fenced && int64(w.cluster().Epoch) == e
	})
	a.store.set(nil)
	b := w.add("b")
	w.voters(a, b)
}
