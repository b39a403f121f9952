package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/load"
	"github.com/kinsy/kinsy/test/harness/registers"
)

const (
	fullClients = 100
	fullValue   = 256 // bytes
	fullKeys    = 10_000
)

// TestFalseElections lets many clients write and read as fast as they can: the machine is busy, no node is lost, and so nobody may
// be elected.
func TestFalseElections(t *testing.T) {
	length := min(time.Duration(number(envMinutes, 0.5)*float64(time.Minute)), time.Hour)
	c := newCluster(t)
	ok(t, c.start())
	before, err := c.elections()
	ok(t, err)
	clients := client.DialEach(t, 2*len(c.nodes), c.endpoints()...)
	var crowd load.Load
	var list []load.Client
	for i := range fullClients {
		cl := clients[i%len(clients)]
		value := strings.Repeat("v", fullValue)
		n := 0
		list = append(list, load.Client{Name: fmt.Sprint("client ", i), Strict: true, One: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, client.WaitLimit)
			defer cancel()
			n++
			var err error
			if n%10 == 0 {
				_, err = cl.Get(ctx, fmt.Sprintf("/full/%05d", n*i%fullKeys))
			} else {
				_, err = cl.Put(ctx, fmt.Sprintf("/full/%05d", (n*fullClients+i)%fullKeys), value)
			}
			crowd.Add()
			return err
		}})
	}
	start := time.Now()
	crowd.Start(t.Context(), list...)
	ok(t, client.Wait(t.Context(), length))
	crowd.Stop()
	crowd.Wait()
	t.Logf("%d requests a second for %s", int(float64(crowd.Count())/time.Since(start).Seconds()), length)
	after, err := c.elections()
	ok(t, err)
	if err := crowd.Err(); err != nil || after != before {
		t.Errorf("elections: %v before, %v after; %v\n%s", before, after, err, c.dump(t))
	}
}

// elections sums up how often an epoch was asked for, and says which is in force.
func (c *cluster) elections() (seen [2]float64, err error) {
	for _, n := range c.nodes {
		count, err := c.metric(n, "kinsy_elections_total")
		if err != nil {
			return seen, err
		}
		epoch, err := c.metric(n, "kinsy_epoch")
		if err != nil {
			return seen, err
		}
		seen[0] += count
		seen[1] = max(seen[1], epoch)
	}
	return seen, nil
}

// TestStaleReadsAreFound has linearizable reads answered as serializable ones: the check of registers must find it.
func TestStaleReadsAreFound(t *testing.T) {
	c := newCluster(t, "--stale-read")
	ok(t, c.start())
	crowd := registers.NewCrowd(registers.Config{Count: 30, Clients: c.clients(), Seed: *flagSeed, Patience: client.Patience, Strict: true})
	crowd.Start(t.Context())
	ok(t, crowd.Await(t.Context(), 5000))
	ok(t, crowd.End())
	l := newSquad("none", 0, nil, 0).End(1)
	_, events, err := l.Verify(t.Context(), c.clients()[0])
	ok(t, err)
	if result, err := registers.Judge(events, t.ArtifactDir(), crowd); !errors.Is(err, registers.ErrNotLinearizable) {
		t.Errorf("stale reads are not found: %v %v", result, err)
	}
}
