package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/ledger"
	"github.com/kinsy/kinsy/test/harness/process"
)

// recoverLimit is how soon writes must work again once the fault is gone.
const recoverLimit = 10 * time.Second

// patient is a store to which a fault happens, and what clients did with it.
type patient struct {
	*process.Node
	client *clientv3.Client
	probe  *ledger.Writer
	ledger *ledger.Ledger
}

func newPatient(t *testing.T, dir, api string) *patient {
	t.Helper()
	p := &patient{Node: newNode(t, dir, api, "--value-cache-bytes", "65536"), ledger: &ledger.Ledger{Base: 1}}
	ok(t, p.Start())
	p.client = p.Node.Client(t)
	p.probe = ledger.NewWriter("probe", p.client, rand.New(rand.NewPCG(*flagSeed, 5)), true, client.WaitLimit)
	return p
}

// writeUntil lets writers work until fault, called after some writes, makes them all fail with an error that is one of want.
func (p *patient) writeUntil(t *testing.T, name string, fault func() error, want ...error) {
	t.Helper()
	s := newSquad(name, 16, p.Clients(t, 4), *flagSeed, p.API == process.ProfileEtcd)
	s.Start(t.Context())
	ok(t, s.Await(t.Context(), 300))
	ok(t, fault())
	s.Wait()
	for _, w := range s.Writers {
		if !isOne(w.Err, want) {
			t.Errorf("writer ended with %v, want one of %v", w.Err, want)
		}
	}
	p.take(s.End(1))
}

func isOne(err error, list []error) bool {
	for _, want := range list {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

func (p *patient) take(l *ledger.Ledger) { p.ledger.Merge(l) }

// try writes one key.
func (p *patient) try() error {
	ctx, cancel := client.Within(context.Background())
	defer cancel()
	return p.probe.Create(ctx)
}

// examine checks that all acknowledged writes are there, and returns what else was found.
func (p *patient) examine(t *testing.T) ledger.Verdict {
	t.Helper()
	p.take(p.probe.Take())
	v, _, err := p.ledger.Verify(t.Context(), p.client)
	ok(t, err)
	return v
}

// requireRefusing checks every way in which a store tells that it does not take writes, while it goes on serving reads.
func (p *patient) requireRefusing(t *testing.T, want error, alarm pb.AlarmType) {
	t.Helper()
	if err := p.try(); !errors.Is(err, want) {
		t.Errorf("write ended with %v, want %v", err, want)
	}
	if _, err := p.client.Grant(t.Context(), 60); !errors.Is(err, want) {
		t.Errorf("lease grant ended with %v, want %v", err, want)
	}
	p.requireStatus(t, http.StatusServiceUnavailable, "false", 0, alarm)
	status, err := p.client.Status(t.Context(), p.Addr)
	if err != nil || len(status.Errors) == 0 {
		t.Errorf("status tells no error: %v, %v", status, err)
	}
	if code, _, err := p.Get("/livez"); err != nil || code != http.StatusOK {
		t.Errorf("/livez is %d (%v): a restart would not help", code, err)
	}
	p.examine(t)
}

func (p *patient) requireStatus(t *testing.T, ready int, health string, serving float64, alarm pb.AlarmType) {
	t.Helper()
	if code, body, err := p.Get("/readyz"); err != nil || code != ready {
		t.Errorf("/readyz is %d %q (%v), want %d", code, body, err, ready)
	}
	if got, err := p.Health(); err != nil || got != health {
		t.Errorf("/health is %q (%v), want %s", got, err, health)
	}
	if got, err := p.Metric("kinsy_serving_writes"); err != nil || got != serving {
		t.Errorf("kinsy_serving_writes is %v (%v), want %v", got, err, serving)
	}
	resp, err := p.client.AlarmList(t.Context())
	ok(t, err)
	got := pb.AlarmType_NONE
	for _, a := range resp.Alarms {
		got = a.Alarm
	}
	if got != alarm {
		t.Errorf("alarm is %v, want %v", got, alarm)
	}
}

// requireRecovered checks that the store takes writes again by itself, and keeps them over a kill.
func (p *patient) requireRecovered(t *testing.T) {
	t.Helper()
	start := time.Now()
	ok(t, client.Until(recoverLimit, 20*time.Millisecond, p.try))
	t.Logf("writes work again after %s", time.Since(start).Round(time.Millisecond))
	p.requireStatus(t, http.StatusOK, "true", 1, pb.AlarmType_NONE)
	s := newSquad(fmt.Sprintf("after%d", len(p.ledger.Writes)), 8, p.Clients(t, 2), *flagSeed, p.API == process.ProfileEtcd)
	s.Start(t.Context())
	ok(t, s.Await(t.Context(), 200))
	p.take(s.End(1))
	p.examine(t)
	process.RequireNoPanic(t, p.Proc)
	ok(t, p.Restart())
	v := p.examine(t)
	t.Logf("%d writes acknowledged, %d refused or of unknown outcome, of which %d were done", v.Acknowledged, v.Unknown, v.Applied)
}

// alarmOf is the alarm of a store without space: the netsy profile has only one.
func alarmOf(api string) pb.AlarmType {
	if api == process.ProfileNetsy {
		return pb.AlarmType_CORRUPT
	}
	return pb.AlarmType_NOSPACE
}

// TestFullDiskRefusesWritesAndServesReads fills the disk under writers.
func TestFullDiskRefusesWritesAndServesReads(t *testing.T) {
	for _, api := range []string{process.ProfileNetsy, process.ProfileEtcd} {
		t.Run(api, func(t *testing.T) {
			d := tmpfs(t, "48m")
			p := newPatient(t, d.data(), api)
			p.writeUntil(t, "first", d.fill, rpctypes.ErrNoSpace)
			p.requireRefusing(t, rpctypes.ErrNoSpace, alarmOf(api))
			if code, _, err := p.Get("/health?exclude=NOSPACE"); err != nil || code != http.StatusOK {
				t.Errorf("/health?exclude=NOSPACE is %d (%v)", code, err)
			}
			if v := p.examine(t); v.Applied != 0 {
				t.Errorf("%d writes that were refused for want of space were done", v.Applied)
			}
			ok(t, d.free())
			p.requireRecovered(t)
		})
	}
}

// writeUntilRefused writes until that fails, and returns how many writes were done. Some are after a start on a full disk: the
// write-ahead log begins anew in the space that it has.
func (p *patient) writeUntilRefused() (fit int, err error) {
	for ; err == nil && fit < 20_000; fit++ {
		err = p.try()
	}
	return fit - 1, err
}

// TestFullDiskAtStart kills a store whose disk is full. It must start and serve reads, or say why it does not; with space
// again it has everything.
func TestFullDiskAtStart(t *testing.T) {
	d := tmpfs(t, "48m")
	p := newPatient(t, d.data(), process.ProfileEtcd)
	p.writeUntil(t, "first", d.fill, rpctypes.ErrNoSpace)
	p.Proc.Kill()
	err := p.Start()
	process.RequireNoPanic(t, p.Proc)
	switch {
	case err == nil:
		p.examine(t)
		fit, err := p.writeUntilRefused()
		t.Logf("starts on a full disk, where %d writes still fit", fit)
		if !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("write ended with %v", err)
		}
	case errors.Is(err, process.ErrEnded):
		t.Logf("does not start on a full disk: %v", err)
	default:
		t.Fatal(err)
	}
	ok(t, d.free())
	if err != nil {
		ok(t, p.Start())
	}
	p.requireRecovered(t)
}
