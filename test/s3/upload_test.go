package s3

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/test/s3/faultproxy"
)

// TestAsyncUploadSurvivesDiskLoss writes with the local commit rule through faults of the store, waits until all is
// uploaded, and takes the process and the disk away.
func TestAsyncUploadSurvivesDiskLoss(t *testing.T) {
	w := newWorld(t)
	n := w.node(quorumLocal, "--upload-interval", "50ms", "--upload-bytes", "16384")
	ok(t, n.start())
	w.proxy.Set(faultproxy.Plan{Chance: map[faultproxy.Fault]float64{faultproxy.LostAnswer: 0.2, faultproxy.SlowDown: 0.2, faultproxy.Twice: 0.2}})
	clients := n.clients(t, crashClients)
	s := newSquad("async", crashWriters, clients, *flagSeed)
	s.start(t.Context())
	ok(t, s.await(t.Context(), n, 5000))
	l, err := s.end(1, false)
	ok(t, err)
	v, before, err := l.verify(t.Context(), clients[0])
	ok(t, err)
	w.proxy.Set(faultproxy.Plan{})
	head := before[len(before)-1].revision
	ok(t, w.awaitUploaded(head))
	ok(t, n.restart(true))
	_, after, err := l.verify(t.Context(), clients[0])
	ok(t, err)
	ok(t, sameEvents(after, before))
	c := w.requireChain("", head, clients[0])
	requireNoPanic(t, n.proc)
	t.Logf("%v; %d chunks", v, c.chunks)
}

// TestDisagreeingLogIsSetAside lets a node with the local commit rule write while the store is down, and meanwhile another
// one with a copy of its disk go on in the store. When the first comes back its rows contradict the chain: they are set
// aside, where an operator finds them, and it serves what the chain says.
func TestDisagreeingLogIsSetAside(t *testing.T) {
	w := newWorld(t)
	first := w.node(quorumLocal, "--upload-interval", "50ms")
	ok(t, first.start())
	_, err := fill(t.Context(), first.client(t), "/common/", 50)
	ok(t, err)
	_, err = first.proc.terminate()
	ok(t, err)
	copied := w.node(quorumStore)
	ok(t, os.CopyFS(copied.dir, os.DirFS(first.dir)))
	w.proxy.Set(faultproxy.Outage())
	ok(t, first.start())
	_, err = fill(t.Context(), first.client(t), "/alone/", 30)
	ok(t, err)
	first.proc.kill()
	w.proxy.Set(faultproxy.Plan{})
	ok(t, copied.start())
	_, err = fill(t.Context(), copied.client(t), "/chain/", 20)
	ok(t, err)
	_, err = copied.proc.terminate()
	ok(t, err)

	before := files(t, first.dir)
	ok(t, first.start())
	c := first.client(t)
	requireFill(t, c, "/common/", 50)
	requireFill(t, c, "/chain/", 20)
	requireFill(t, c, "/alone/", 0)
	var aside string
	for path := range files(t, first.dir) {
		if !before[path] && strings.Contains(first.proc.out.String(), filepath.Base(path)) {
			aside = path
		}
	}
	if aside == "" {
		t.Fatalf("no new file in %v is named by the log\n%s", files(t, first.dir), first.proc.out.tail())
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
