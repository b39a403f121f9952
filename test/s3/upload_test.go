package s3

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/test/harness/faultproxy"
	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/process"
)

// TestAsyncUploadSurvivesDiskLoss writes with the local commit rule through faults of the store, waits until all is
// uploaded, and takes the process and the disk away.
func TestAsyncUploadSurvivesDiskLoss(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(quorumLocal, "--upload-interval", "50ms", "--upload-bytes", "16384")
	ok(t, n.Start())
	w.proxy.Set(faultproxy.Plan{Chance: map[faultproxy.Fault]float64{faultproxy.LostAnswer: 0.2, faultproxy.SlowDown: 0.2, faultproxy.Twice: 0.2}})
	clients := n.Clients(t, crashClients)
	s := newSquad("async", crashWriters, clients, *flagSeed)
	s.Start(t.Context())
	ok(t, s.Await(n.Proc.While(t.Context()), 5000))
	l, err := s.End(1), s.Err()
	ok(t, err)
	v, before, err := l.Verify(t.Context(), clients[0])
	ok(t, err)
	w.proxy.Set(faultproxy.Plan{})
	head := before[len(before)-1].Revision
	ok(t, w.awaitUploaded(head))
	ok(t, n.RestartEmpty())
	_, after, err := l.Verify(t.Context(), clients[0])
	ok(t, err)
	ok(t, history.SameEvents(after, before))
	c := w.requireChain("", head, clients[0])
	process.RequireNoPanic(t, n.Proc)
	t.Logf("%v; %d chunks", v, c.chunks)
}

// TestDisagreeingLogIsSetAside lets a node with the local commit rule write while the store is down, and meanwhile another
// one with a copy of its disk go on in the store. When the first comes back its rows contradict the chain: they are set
// aside, where an operator finds them, and it serves what the chain says.
func TestDisagreeingLogIsSetAside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.node(quorumLocal, "--upload-interval", "50ms")
	ok(t, first.Start())
	_, err := fill(t.Context(), first.Client(t), "/common/", 50)
	ok(t, err)
	_, err = first.Proc.Terminate(stopLimit)
	ok(t, err)
	copied := w.node(quorumStore)
	ok(t, os.CopyFS(copied.Dir, os.DirFS(first.Dir)))
	w.proxy.Set(faultproxy.Outage())
	ok(t, first.Start())
	_, err = fill(t.Context(), first.Client(t), "/alone/", 30)
	ok(t, err)
	first.Proc.Kill()
	w.proxy.Set(faultproxy.Plan{})
	ok(t, copied.Start())
	_, err = fill(t.Context(), copied.Client(t), "/chain/", 20)
	ok(t, err)
	_, err = copied.Proc.Terminate(stopLimit)
	ok(t, err)

	before := files(t, first.Dir)
	ok(t, first.Start())
	c := first.Client(t)
	requireFill(t, c, "/common/", 50)
	requireFill(t, c, "/chain/", 20)
	requireFill(t, c, "/alone/", 0)
	var aside string
	for path := range files(t, first.Dir) {
		if !before[path] && strings.Contains(first.Proc.Output(), filepath.Base(path)) {
			aside = path
		}
	}
	if aside == "" {
		t.Fatalf("no new file in %v is named by the log\n%s", files(t, first.Dir), first.Proc.Tail())
	}
	if info, err := os.Stat(aside); err != nil || info.Size() == 0 {
		t.Errorf("%s, set aside: %v, %v", aside, info, err)
	}
	head, err := fill(t.Context(), c, "/later/", 10)
	ok(t, err)
	ok(t, w.awaitUploaded(head))
	t.Logf("set aside: %s", filepath.Base(aside))
}

// files lists the files below a folder.
func files(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	ok(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found[path] = true
		}
		return err
	}))
	return found
}
