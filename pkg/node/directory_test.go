package node

import (
	"io"
	"sync/atomic"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// TestClientsCostObjectStorageLittle: however many clients ask for the members, object
// storage is asked once a second; what a node was told is listed meanwhile.
func TestClientsCostObjectStorageLittle(t *testing.T) {
	var requests atomic.Int64
	store := object.NewMemory()
	store.Before = func(object.Op, string) error {
		requests.Add(1)
		return nil
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	d := newDirectory(s3snap.NewControl(store, 1, 1, log), 1, t.TempDir(), func([]peer.Peer) {}, log)
	d.learn(knownCluster{
		Nodes:   []s3snap.Registration{{Name: "b", ID: 2, PeerAddress: "b:1"}, {Name: "a", ID: 1, PeerAddress: "a:1"}},
		Members: map[string]uint64{"a": 10, "b": 20},
	}, nil)
	_ = d.freshen(t.Context()) // there is no cluster: what is known stays
	asked := requests.Load()
	if asked == 0 {
		t.Fatal("the first client is told what may be old")
	}
	for range 100 {
		if err := d.freshen(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if more := requests.Load() - asked; more != 0 {
		t.Errorf("100 clients more cost %d requests", more)
	}
	list := d.list("http", []elect.NodeID{1})
	if len(list) != 2 || list[0].ID != 10 || list[0].IsLearner || !list[1].IsLearner || list[1].PeerURLs[0] != "http://b:1" {
		t.Errorf("members are %v", list)
	}
}
