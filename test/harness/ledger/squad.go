package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/load"
)

// Config describes a Squad.
type Config struct {
	// Name begins the ids of its writers. It must be unique in the whole test.
	Name string
	// Count is the number of writers. They share Clients, in turn; those may be of different nodes.
	Count   int
	Clients []*clientv3.Client
	// Seed gives the random choices.
	Seed uint64
	// Single: each request changes one key, as in the netsy profile.
	Single bool
	// Strict: every error before Stop is a fault, and ends its writer. Else writers go on when an answer is missing.
	Strict bool
	// Patience bounds each request; 0 means client.WaitLimit.
	Patience time.Duration
}

// Squad is a number of writers at work: a load.Load that counts acknowledged writes.
type Squad struct {
	load.Load
	// Writers are those of the squad, for a look at their errors when they have ended.
	Writers []*Writer

	strict bool
	guests []*Writer
}

// NewSquad makes the writers. They begin with Start.
func NewSquad(c Config) *Squad {
	if c.Patience == 0 {
		c.Patience = client.WaitLimit
	}
	s := &Squad{strict: c.Strict}
	for i := range c.Count {
		w := NewWriter(fmt.Sprintf("%s/%02d", c.Name, i), c.Clients[i%len(c.Clients)], rand.New(rand.NewPCG(c.Seed, uint64(i))), c.Single, c.Patience)
		w.tell = s.Add
		s.Writers = append(s.Writers, w)
	}
	return s
}

// Join lets End take what a writer did that somebody else runs. Its goroutine must have ended by then.
func (s *Squad) Join(w *Writer) { s.guests = append(s.guests, w) }

// Start lets the writers work until Stop, or ctx ends.
func (s *Squad) Start(ctx context.Context) {
	var clients []load.Client
	for _, w := range s.Writers {
		clients = append(clients, load.Client{Name: "writer " + w.id, One: w.one, Strict: s.strict, Fault: func(err error) { w.Err = err }})
	}
	s.Load.Start(ctx, clients...)
}

// End stops the writers, waits for them, and returns what all of them did, to be checked from base on. Load.Err says what must
// not have happened meanwhile.
func (s *Squad) End(base int64) *Ledger {
	s.Stop()
	s.Wait()
	l := &Ledger{Base: base}
	for _, w := range s.Writers {
		l.Merge(w.Take())
	}
	for _, w := range s.guests {
		l.Merge(w.Take())
	}
	return l
}
