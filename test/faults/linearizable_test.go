package faults

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/process"
	"github.com/kinsy/kinsy/test/harness/registers"
)

const (
	registerClients     = 16
	registerConnections = 4
	registerLives       = 5 // processes of one history; all but the last are killed
)

// TestHistoriesAreLinearizable lets clients read and write a few keys while the store is killed and started again. The
// answers, revisions included, must be those of one sequence of operations. What became of writes without an answer is
// read from the store's history at the end.
func TestHistoriesAreLinearizable(t *testing.T) {
	t.Parallel()
	for _, api := range []string{process.ProfileNetsy, process.ProfileEtcd} {
		t.Run(api, func(t *testing.T) {
			n := newNode(t, t.TempDir(), api)
			ok(t, n.Start())
			rng := rand.New(rand.NewPCG(*flagSeed, 4))
			conns := n.Clients(t, registerConnections)
			crowd := registers.NewCrowd(registers.Config{Count: registerClients, Clients: conns, Seed: *flagSeed, Alone: true,
				Single: api == process.ProfileNetsy, Strict: true})
			for life := range registerLives {
				ok(t, oneLife(t.Context(), n, crowd, 1000+rng.Int64N(2000), life < registerLives-1))
			}
			head, err := history.Revision(t.Context(), conns[0])
			ok(t, err)
			events, _, err := history.Replay(t.Context(), conns[0], 1, head)
			ok(t, err)
			ok(t, history.Contiguous(events, 1, head))
			result, err := registers.Judge(events, t.ArtifactDir(), crowd)
			t.Log(result)
			if err != nil {
				t.Fatalf("seed %d: %v", *flagSeed, err)
			}
		})
	}
}

// oneLife lets the clients work until they have had a number of answers. Then it kills the process and starts another one, or
// waits for the clients.
func oneLife(ctx context.Context, n *process.Node, crowd *registers.Crowd, requests int64, kill bool) error {
	crowd.Start(ctx)
	if err := crowd.Await(n.Proc.While(ctx), requests); err != nil {
		return err
	}
	crowd.Stop()
	if kill {
		n.Proc.Kill()
		crowd.GiveUp() // the etcd client goes on trying reads
	}
	crowd.Wait()
	crowd.Bury()
	if err := crowd.Err(); err != nil || !kill {
		return err
	}
	return n.Start()
}
