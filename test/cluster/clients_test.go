package cluster

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/ledger"
	"github.com/kinsy/kinsy/test/harness/registers"
)

// newSquad makes writers whose values begin with a name. They go on whatever happens to the cluster.
func newSquad(name string, count int, clients []*clientv3.Client, seed uint64) *ledger.Squad {
	return ledger.NewSquad(ledger.Config{Name: name, Count: count, Clients: clients, Seed: seed, Patience: client.Patience})
}

// registerPause is the longest time between two requests of one client of registers.
const registerPause = 20 * time.Millisecond

// newCrowd makes clients of registers. They go on whatever happens to the cluster.
func newCrowd(count int, clients []*clientv3.Client, seed uint64) *registers.Crowd {
	return registers.NewCrowd(registers.Config{Count: count, Clients: clients, Seed: seed, Patience: client.Patience, Pause: registerPause})
}

// judge checks what clients of registers were told against the history.
func judge(t *testing.T, events []history.Event, crowds ...*registers.Crowd) {
	t.Helper()
	result, err := registers.Judge(events, t.ArtifactDir(), crowds...)
	t.Log(result)
	if err != nil {
		t.Fatalf("seed %d: %v", *flagSeed, err)
	}
}
