package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/faultproxy"
	"github.com/kinsy/kinsy/test/harness/process"
)

const (
	// probeEvery is how often a write is sent, at each node in turn; it does not wait for the one before.
	probeEvery = 4 * time.Millisecond
	// probePatience is how long a probe waits for its answer.
	probePatience = 6 * time.Second
	// killBar and stopBar are how long no write may be acknowledged, in 95 of 100 cases, when the Primary is killed, and when it is
	// stopped or cut off; handOverBar is that of a planned hand-over.
	killBar     = time.Second
	stopBar     = 1500 * time.Millisecond
	handOverBar = 300 * time.Millisecond
	// fewRounds is how many rounds are needed for such a judgement; of fewer the median is judged.
	fewRounds = 10
	// frozenBar is how much longer than else a write may take while a Replica is frozen.
	frozenBar = 50 * time.Millisecond
)

// probe is one write of a volley.
type probe struct {
	node     int
	sent     time.Time
	answered time.Time
	err      error
}

// volley sends writes at a steady pace, whatever becomes of them.
type volley struct {
	clients []*clientv3.Client
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu     sync.Mutex
	probes []*probe
	acked  chan struct{} // closed and made anew at each acknowledgement
}

// fire begins to write through clients, in turn.
func fire(ctx context.Context, clients []*clientv3.Client) *volley {
	ctx, cancel := context.WithCancel(ctx)
	v := &volley{clients: clients, cancel: cancel, acked: make(chan struct{})}
	v.done.Go(func() {
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		for i := 0; ; i++ {
			v.done.Go(func() { v.one(ctx, i%len(clients), i) })
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return v
}

func (v *volley) one(ctx context.Context, node, i int) {
	p := &probe{node: node, sent: time.Now()}
	_, err := put(ctx, probePatience, v.clients[node], fmt.Sprintf("/probe/%02d", i%64), fmt.Sprint(i))
	v.mu.Lock()
	defer v.mu.Unlock()
	p.answered, p.err = time.Now(), err
	v.probes = append(v.probes, p)
	if err == nil {
		close(v.acked)
		v.acked = make(chan struct{})
	}
}

// first is when the first write was acknowledged that was sent after a moment.
func (v *volley) first(ctx context.Context, after time.Time) (time.Time, error) {
	ctx, cancel := client.Within(ctx)
	defer cancel()
	for {
		v.mu.Lock()
		var first time.Time
		for _, p := range v.probes {
			if p.err == nil && p.sent.After(after) && (first.IsZero() || p.answered.Before(first)) {
				first = p.answered
			}
		}
		acked := v.acked
		v.mu.Unlock()
		if !first.IsZero() {
			return first, nil
		}
		select {
		case <-acked:
		case <-ctx.Done():
			return first, fmt.Errorf("no write is acknowledged: %w", ctx.Err())
		}
	}
}

// result is what a volley tells of a time in which something happened.
type result struct {
	began   time.Time
	gap     time.Duration // the longest time between two acknowledgements
	longest time.Duration // that a write took which was acknowledged
	stuck   time.Duration // that a write took which was not
	failed  int
	why     map[string]int          // of the failures
	asked   map[faultproxy.Op]int64 // of object storage
}

// end stops the volley and judges it from a moment on.
func (v *volley) end(from time.Time) result {
	v.cancel()
	v.done.Wait()
	r, acks := result{began: from, why: map[string]int{}}, []time.Time{from}
	for _, p := range v.probes {
		switch took := p.answered.Sub(p.sent); {
		case p.sent.Before(from):
		case p.err == nil:
			r.longest = max(r.longest, took)
			acks = append(acks, p.answered)
		case !errors.Is(p.err, context.Canceled):
			r.failed++
			r.why[p.err.Error()]++
			r.stuck = max(r.stuck, took)
		}
	}
	slices.SortFunc(acks, time.Time.Compare)
	for i := range len(acks) - 1 {
		r.gap = max(r.gap, acks[i+1].Sub(acks[i]))
	}
	return r
}

// trial is something that happens to the Primary; undo ends it when it was measured.
type trial struct {
	name     string
	bar      time.Duration
	elsewhen bool // the Primary is not the Elector
	cut      bool
	planned  bool
	do       func(c *cluster, primary *process.Node) error
	undo     func(c *cluster, primary *process.Node) error
}

func trials() []trial {
	relaunch := func(_ *cluster, n *process.Node) error { return n.Launch() }
	nothing := func(*cluster, *process.Node) error { return nil }
	kill := func(_ *cluster, n *process.Node) error {
		n.Proc.Kill()
		return nil
	}
	stop := func(c *cluster, n *process.Node) error { return c.freeze(n) }
	goOn := func(c *cluster, n *process.Node) error { return c.thaw(n) }
	off := func(c *cluster, n *process.Node) error { return lab.cut(c.cutsOff(n)...) }
	heal := func(*cluster, *process.Node) error { return lab.heal() }
	return []trial{
		{name: "kill -9", bar: killBar, do: kill, undo: relaunch},
		{name: "kill -9, not the elector", bar: killBar, elsewhen: true, do: kill, undo: relaunch},
		{name: "SIGSTOP", bar: stopBar, do: stop, undo: goOn},
		{name: "SIGSTOP, not the elector", bar: stopBar, elsewhen: true, do: stop, undo: goOn},
		{name: "cut off", bar: stopBar, cut: true, do: off, undo: heal},
		{name: "cut off, not the elector", bar: stopBar, elsewhen: true, cut: true, do: off, undo: heal},
		{name: "MoveLeader", bar: handOverBar, planned: true, do: (*cluster).moveLeader, undo: nothing},
		{name: "SIGTERM", bar: handOverBar, planned: true, do: (*cluster).terminate, undo: relaunch},
	}
}

// moveLeader asks the Primary to hand over to another node.
func (c *cluster) moveLeader(primary *process.Node) error {
	_, err := c.moveTo(primary, c.others(primary)[0])
	return err
}

// moveTo asks the Primary to hand over to a node, and returns how long that took.
func (c *cluster) moveTo(primary, to *process.Node) (time.Duration, error) {
	ctx, cancel := client.Within(c.t.Context())
	defer cancel()
	cl := primary.Client(c.t)
	members, err := cl.MemberList(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range members.Members {
		if m.Name == to.Name {
			start := time.Now()
			_, err := cl.MoveLeader(ctx, m.ID)
			return time.Since(start), err
		}
	}
	return 0, fmt.Errorf("%s is no member", to.Name)
}

func (c *cluster) terminate(n *process.Node) error {
	_, err := n.Proc.Terminate(stopLimit)
	return err
}

// arrange makes the Primary the Elector too, or sees to it that it is not: who elects becomes Primary itself, unless a Primary hands
// over. A Primary that was cut off may say for a moment longer that it is one, so that this is tried again.
func (c *cluster) arrange(elsewhen bool) (p *process.Node, err error) {
	err = client.Until(2*settleLimit, 20*time.Millisecond, func() error {
		if p, err = c.primary(); err != nil || elsewhen != c.elector(p) {
			return err
		}
		if elsewhen {
			_, err = c.moveTo(p, c.others(p)[0])
		} else {
			p.Proc.Kill()
			err = p.Launch()
		}
		return errors.Join(err, c.settled(settleLimit), errors.New("another node is primary"))
	})
	return p, err
}

// elector reports whether a node says that it is the Elector.
func (c *cluster) elector(n *process.Node) bool {
	is, err := c.metric(n, "kinsy_elector")
	return err == nil && is == 1
}

// TestFailover measures how long no write is acknowledged when something happens to the Primary.
func TestFailover(t *testing.T) {
	rounds := int(number(envRounds, 3))
	c := newCluster(t)
	if err := c.start(); err != nil {
		t.Fatalf("%v\n%s", err, c.dump(t))
	}
	table := []string{fmt.Sprintf("%-26s %6s %9s %9s %9s %9s %9s %7s", "event", "rounds", "median", "p95", "longest", "slowest", "stuck", "failed")}
	for _, tr := range trials() {
		if tr.cut && !lab.separate {
			continue
		}
		if only := os.Getenv(envOnly); only != "" && !strings.Contains(tr.name, only) {
			continue
		}
		var gaps []time.Duration
		var sum result
		for range rounds {
			r, err := c.measure(tr)
			if err != nil {
				t.Fatalf("%s: %v\n%s\n%s", tr.name, err, strings.Join(table, "\n"), c.dump(t))
			}
			t.Logf("%s %s: no write for %s %v %v", r.began.UTC().Format("15:04:05.000"), tr.name, ms(r.gap), r.asked, r.why)
			gaps = append(gaps, r.gap)
			sum.longest, sum.stuck, sum.failed = max(sum.longest, r.longest), max(sum.stuck, r.stuck), sum.failed+r.failed
		}
		worst := p95(gaps)
		table = append(table, fmt.Sprintf("%-26s %6d %9s %9s %9s %9s %9s %7d", tr.name, rounds, ms(gaps[len(gaps)/2]), ms(worst), ms(gaps[len(gaps)-1]),
			ms(sum.longest), ms(sum.stuck), sum.failed))
		judged := worst
		if rounds < fewRounds {
			judged = gaps[len(gaps)/2]
		}
		if judged > tr.bar && !slow() {
			t.Errorf("%s: no write for %s, want at most %s", tr.name, ms(judged), tr.bar)
		}
	}
	t.Log("\n" + strings.Join(table, "\n"))
}

func ms(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// measure lets something happen once.
func (c *cluster) measure(tr trial) (result, error) {
	p, err := c.arrange(tr.elsewhen)
	if err != nil {
		return result{}, err
	}
	rest := c.others(p)
	v := fire(c.t.Context(), client.DialEach(c.t, len(rest), process.Endpoints(rest...)...))
	if _, err := v.first(c.t.Context(), time.Now()); err != nil {
		return result{}, err
	}
	c.proxy.Reset()
	start := time.Now()
	err = tr.do(c, p)
	after := time.Now() // what was sent later is acknowledged by another Primary
	if tr.planned {
		after = start
	}
	if err == nil {
		_, err = v.first(c.t.Context(), after)
	}
	asked := c.proxy.Stats().Requests
	if err == nil {
		err = client.Wait(c.t.Context(), 300*time.Millisecond)
	}
	r := v.end(start)
	r.asked = asked
	if err == nil {
		err = tr.undo(c, p)
	}
	if err == nil {
		err = c.settled(settleLimit)
	}
	return r, err
}

// TestFrozenReplica compares writes while a Replica is stopped with those while none is.
func TestFrozenReplica(t *testing.T) {
	c := newCluster(t)
	ok(t, c.start())
	p, err := c.awaitPrimary()
	ok(t, err)
	rest := c.others(p)
	clients := client.DialEach(t, 2, p.Addr, rest[0].Addr)
	normal := during(t, clients, func() {
		ok(t, client.Wait(t.Context(), longStop))
	})
	frozen := during(t, clients, func() {
		ok(t, c.freeze(rest[1]))
		ok(t, client.Wait(t.Context(), longStop))
		ok(t, c.thaw(rest[1]))
		ok(t, client.Wait(t.Context(), time.Second))
	})
	t.Logf("slowest write %s with all replicas, %s with one of them frozen; %d failed", ms(normal.longest), ms(frozen.longest), frozen.failed)
	if (frozen.longest > normal.longest+frozenBar || frozen.failed > 0) && !slow() {
		t.Errorf("a write took %s while a replica was frozen, and at most %s before, %d failed; want at most %s more", ms(frozen.longest), ms(normal.longest),
			frozen.failed, frozenBar)
	}
}

// during lets clients write while something happens.
func during(t *testing.T, clients []*clientv3.Client, happen func()) result {
	v := fire(t.Context(), clients)
	_, err := v.first(t.Context(), time.Now())
	ok(t, err)
	start := time.Now()
	happen()
	return v.end(start)
}
