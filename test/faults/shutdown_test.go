package faults

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/process"
)

// TestSIGTERMUnderLoadEndsInTimeAndLosesNothing stops a store that has 32 writers, who go on, and open watch streams: first
// such that are read, which must hardly hold it up, then also such that are not.
func TestSIGTERMUnderLoadEndsInTimeAndLosesNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		api    string
		unread int
		within time.Duration
	}{
		{"netsy", process.ProfileNetsy, 0, stopLimit / 2},
		{"etcd", process.ProfileEtcd, 0, stopLimit / 2},
		{"watches that nobody reads", process.ProfileEtcd, 40, stopLimit},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPatient(t, t.TempDir(), test.api)
			ctx, cancel := context.WithCancel(t.Context())
			watches, err := openWatches(ctx, p.Clients(t, 4), 40, test.unread)
			ok(t, err)
			s := newSquad("load", 32, p.Clients(t, 8), *flagSeed, test.api == process.ProfileEtcd)
			s.Start(ctx)
			ok(t, s.Await(ctx, 2000))
			took, err := p.Proc.Terminate(stopLimit)
			ok(t, err)
			cancel()
			ok(t, watches())
			process.RequireNoPanic(t, p.Proc)
			p.take(s.End(1)) // the writers have ended with errors, each when it was refused or cut off
			if took > test.within || strings.Contains(p.Proc.Output(), "level=error") {
				t.Errorf("ended %s after SIGTERM, with the messages:\n%s", took, p.Proc.Output())
			}
			ok(t, p.Start())
			v := p.examine(t)
			t.Logf("ended %s after SIGTERM; %d writes acknowledged, %d of unknown outcome of which %d were done",
				took.Round(time.Millisecond), v.Acknowledged, v.Unknown, v.Applied)
		})
	}
}

// openWatches opens watches of all keys that are read, and such that nobody reads, until ctx ends. It returns when each is
// created. wait tells, after ctx, what the readers found wrong.
func openWatches(ctx context.Context, clients []*clientv3.Client, read, unread int) (wait func() error, err error) {
	var open sync.WaitGroup
	errs := make([]error, read)
	for i := range read + unread {
		f := history.NewFollower("", 0)
		stream, err := f.Open(ctx, clients[i%len(clients)])
		if err != nil {
			return nil, fmt.Errorf("open watch: %w", err)
		}
		if i >= read {
			continue
		}
		open.Go(func() {
			for errs[i] == nil {
				errs[i] = f.Receive(stream)
			}
			if !errors.Is(errs[i], history.ErrBroken) {
				errs[i] = nil // the stream has ended
			}
		})
	}
	return func() error {
		open.Wait()
		return errors.Join(errs...)
	}, nil
}

// TestSecondProcessOnAFolderIsRefused starts a second process on the folder of one that serves.
func TestSecondProcessOnAFolderIsRefused(t *testing.T) {
	p := newPatient(t, t.TempDir(), process.ProfileNetsy)
	ok(t, p.try())
	second := newNode(t, p.Dir, process.ProfileEtcd)
	if err := second.Start(); !errors.Is(err, process.ErrEnded) {
		t.Fatalf("start ended with %v", err)
	}
	if code := second.Proc.ExitCode(); code <= 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{fmt.Sprint(p.Proc.PID()), p.Addr, p.Dir} {
		if !strings.Contains(second.Proc.Output(), want) {
			t.Errorf("%q is not in the message: %s", want, second.Proc.Output())
		}
	}
	process.RequireNoPanic(t, second.Proc)
	ok(t, p.try())
	p.Proc.Kill()
	second.API = process.ProfileNetsy
	ok(t, second.Start()) // the lock went with the process that held it
	c := second.Client(t)
	p.client = c
	p.examine(t)
}

// TestSIGTERMWhileTheLogIsLoadedEndsInTime stops a store before it serves, at several moments of a long load.
func TestSIGTERMWhileTheLogIsLoadedEndsInTime(t *testing.T) {
	const rows = 200_000
	n := newNode(t, t.TempDir(), process.ProfileEtcd)
	ok(t, n.Start())
	ok(t, fillStore(t.Context(), n.Client(t), rows))
	_, err := n.Proc.Terminate(stopLimit)
	ok(t, err)
	start := time.Now()
	ok(t, n.Start())
	loading := time.Since(start)
	_, err = n.Proc.Terminate(stopLimit)
	ok(t, err)
	caught := 0
	for i := range 8 {
		ok(t, n.Launch())
		moment := time.NewTimer(loading * time.Duration(i) / 8)
		<-moment.C
		code, _, err := n.Get("/readyz")
		if err == nil && code == http.StatusServiceUnavailable {
			caught++
		}
		if _, err := n.Proc.Terminate(stopLimit); err != nil && code != 0 {
			t.Errorf("after %d/8 of %s: %v", i, loading, err)
		}
		process.RequireNoPanic(t, n.Proc)
	}
	ok(t, n.Start())
	resp, err := n.Client(t).Get(t.Context(), bulkPrefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	ok(t, err)
	if resp.Count != rows {
		t.Errorf("%d of %d keys are left", resp.Count, rows)
	}
	t.Logf("loading %d rows takes %s; %d of 8 stops came while /readyz said so", rows, loading.Round(time.Millisecond), caught)
}

const (
	bulkPrefix = "/bulk/"
	bulkTxn    = 125 // puts in one Txn
)

// fillStore writes many keys with large Txns.
func fillStore(ctx context.Context, c *clientv3.Client, rows int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	next := make(chan int)
	errs := make([]error, 16)
	var done sync.WaitGroup
	for i := range errs {
		done.Go(func() {
			for from := range next {
				ops := make([]clientv3.Op, bulkTxn)
				for j := range ops {
					ops[j] = clientv3.OpPut(fmt.Sprintf("%s%08d", bulkPrefix, from+j), "value")
				}
				if _, err := c.Txn(ctx).Then(ops...).Commit(); err != nil {
					errs[i] = err
				}
			}
		})
	}
	for from := 0; from < rows; from += bulkTxn {
		next <- from
	}
	close(next)
	done.Wait()
	return errors.Join(errs...)
}
