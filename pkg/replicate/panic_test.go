package replicate

import (
	"testing"

	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// TestPanicInCommit: nobody waits for ever, and nothing pending becomes visible.
func TestPanicInCommit(t *testing.T) {
	b := newBed(t, Config{})
	b.write(put("a", "1"))
	b.log.Hook(mvcctest.Hooks{Append: func([]sqllog.Row) (bool, error) { panic("test") }})
	want(t, "the write whose commit panics", <-b.txn(writes(put("b", "1"))), ErrUnavailable)
	b.hook(mvcctest.Hooks{})
	want(t, "fatal", <-b.fatal, ErrUnavailable)
	want(t, "a later write", <-b.txn(writes(put("c", "1"))), ErrUnavailable)
	if b.keys() != "a" || b.p.Status().Healthy {
		t.Fatalf("%q, %+v", b.keys(), b.p.Status())
	}
	b.reopen(Config{})
	if got := b.keys(); got != "a" {
		t.Fatalf("the log holds %q", got)
	}
}
