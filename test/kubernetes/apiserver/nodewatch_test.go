package apiserver

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

// registry is the prefix of all that kube-apiserver stores.
const registry = "/registry/"

var (
	errBehind    = errors.New("watch is behind")
	errDifferent = errors.New("watch differs")
	errOrder     = errors.New("watch is out of order")
)

// change is what became of a key, by a node or by kube-apiserver.
type change struct {
	kind     string // as kube-apiserver names it: ADDED, MODIFIED, DELETED
	key      string // without registry
	revision int64
}

// nodeWatch keeps a watch of one node on everything, from a revision on. The etcd
// client goes on where it was when the node comes back.
type nodeWatch struct {
	client *clientv3.Client
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	seen    []change
	reached int64 // everything up to it was seen, says the node
	err     error
}

// watchNode starts a watch that shows what comes after a revision. It ends with
// the test.
func watchNode(t *testing.T, client *clientv3.Client, after int64) *nodeWatch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &nodeWatch{client: client, stop: cancel, done: make(chan struct{}), reached: after}
	answers := client.Watch(ctx, registry, clientv3.WithPrefix(), clientv3.WithRev(after+1))
	go func() {
		defer close(w.done)
		for resp := range answers {
			w.take(resp)
		}
	}()
	t.Cleanup(func() {
		w.stop()
		<-w.done
	})
	return w
}

func (w *nodeWatch) take(resp clientv3.WatchResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := resp.Err(); err != nil {
		w.err = errors.Join(w.err, err)
	}
	first := w.reached // what is above may come; a revision comes whole
	for _, event := range resp.Events {
		revision := event.Kv.ModRevision
		if revision <= first || revision < w.reached {
			w.err = errors.Join(w.err, fmt.Errorf("%w: revision %d after %d", errOrder, revision, w.reached))
		}
		w.reached = max(w.reached, revision)
		w.seen = append(w.seen, change{kindOf(event), strings.TrimPrefix(string(event.Kv.Key), registry), revision})
	}
	if resp.IsProgressNotify() {
		w.reached = max(w.reached, resp.Header.Revision)
	}
}

func kindOf(event *clientv3.Event) string {
	switch {
	case event.Type == clientv3.EventTypeDelete:
		return "DELETED"
	case event.IsCreate():
		return "ADDED"
	}
	return "MODIFIED"
}

// await asks for progress until the node says that the watch has shown everything
// up to a revision, and returns it.
func (w *nodeWatch) await(ctx context.Context, revision int64) ([]change, error) {
	var seen []change
	err := process.Until(ctx, pollInterval, func(ctx context.Context) error {
		if err := w.client.RequestProgress(ctx); err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.err != nil {
			return w.err
		}
		if w.reached < revision {
			return fmt.Errorf("%w: at %d, want %d", errBehind, w.reached, revision)
		}
		seen = upTo(w.seen, revision)
		return nil
	})
	return seen, err
}

func upTo(all []change, revision int64) []change {
	var out []change
	for _, c := range all {
		if c.revision <= revision {
			out = append(out, c)
		}
	}
	return out
}

// of returns the changes of a resource after a revision.
func of(all []change, r resource, after int64) []change {
	var out []change
	for _, c := range all {
		if path.Dir(c.key) == r.folder() && c.revision > after {
			out = append(out, c)
		}
	}
	return out
}

// folder is where kube-apiserver stores a resource, under registry.
func (r resource) folder() string { return path.Base(r.path) + "/" + namespace }

// state is what the changes leave: key to revision.
func state(all []change) map[string]int64 {
	out := map[string]int64{}
	for _, c := range all {
		if c.kind == "DELETED" {
			delete(out, c.key)
		} else {
			out[c.key] = c.revision
		}
	}
	return out
}

// compare names the first difference between what a watch has shown and what it
// should have.
func compare(got, want []change) error {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Errorf("%w: %+v and %d more are missing", errDifferent, want[i], len(want)-i-1)
		case i >= len(want):
			return fmt.Errorf("%w: %+v and %d more are too many", errDifferent, got[i], len(got)-i-1)
		case got[i] != want[i]:
			return fmt.Errorf("%w: change %d is %+v, want %+v", errDifferent, i, got[i], want[i])
		}
	}
	return nil
}

// changes returns what a watch of kube-apiserver has shown up to a revision.
func (w *watcher) changes(t *testing.T, revision int64) ([]change, error) {
	t.Helper()
	seen, _, expired := w.events()
	var out []change
	for _, event := range seen {
		m := event.Object.Metadata
		out = append(out, change{event.Type, w.resource.folder() + "/" + m.Name, parseVersion(t, m.ResourceVersion)})
	}
	return upTo(out, revision), expired
}

// TestNodeWatch shows what a watch of a node is refused for.
func TestNodeWatch(t *testing.T) {
	events := func(revisions ...int64) (resp clientv3.WatchResponse) {
		for _, revision := range revisions {
			kv := &mvccpb.KeyValue{Key: []byte(registry + "a"), ModRevision: revision, CreateRevision: 1}
			resp.Events = append(resp.Events, &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv})
		}
		return resp
	}
	progress := clientv3.WatchResponse{Header: &pb.ResponseHeader{Revision: 8}}
	for _, test := range []struct {
		name  string
		shown []clientv3.WatchResponse
		fails bool
	}{
		{"in order", []clientv3.WatchResponse{events(6, 7, 7), progress, events(9)}, false},
		{"not after the beginning", []clientv3.WatchResponse{events(5)}, true},
		{"repeated", []clientv3.WatchResponse{events(6, 7), events(7)}, true},
		{"back", []clientv3.WatchResponse{events(7, 6)}, true},
		{"after progress", []clientv3.WatchResponse{progress, events(8)}, true},
		{"cancelled", []clientv3.WatchResponse{{Canceled: true, CompactRevision: 9}}, true},
	} {
		w := nodeWatch{reached: 5}
		for _, resp := range test.shown {
			w.take(resp)
		}
		if (w.err != nil) != test.fails {
			t.Errorf("%s: %v", test.name, w.err)
		}
	}
	a, b := change{"ADDED", "a", 6}, change{"DELETED", "a", 7}
	for _, got := range [][]change{{a}, {a, b, b}, {b, a}, {b}} {
		if compare(got, []change{a, b}) == nil {
			t.Errorf("%v is no difference", got)
		}
	}
}
