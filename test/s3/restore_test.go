package s3

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
)

const (
	millionRows  = 1_000_000
	fillTxn      = 125 // puts in one Txn
	fillValue    = 256
	millionLimit = 15 * time.Second
)

// TestRestoreMillionRows starts a node without a disk from a million rows of 256 bytes in file:///.
func TestRestoreMillionRows(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes a million rows first")
	}
	n := newNode(t, "--object-store", "file://"+filepath.Join(t.TempDir(), "store"), "--quorum", "-1", "--snapshot-rows", "400000")
	ok(t, n.Start())
	start := time.Now()
	ok(t, fillRows(t.Context(), n.Clients(t, 4), "/million/", millionRows, func(int) string { return strings.Repeat("v", fillValue) }))
	written := time.Since(start)
	took, err := n.Proc.Terminate(stopLimit)
	ok(t, err)
	ok(t, n.Wipe())
	start = time.Now()
	ok(t, n.Start())
	restored := time.Since(start)
	ctx, cancel := client.Within(t.Context())
	defer cancel()
	resp, err := n.Client(t).Get(ctx, "/million/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	ok(t, err)
	if resp.Count != millionRows {
		t.Errorf("%d of %d keys are there", resp.Count, millionRows)
	}
	t.Logf("%d rows of %d bytes: written in %s, ended in %s, restored and serving after %s", millionRows, fillValue,
		written.Round(time.Millisecond), took.Round(time.Millisecond), restored.Round(time.Millisecond))
	if restored > millionLimit && !slow() {
		t.Errorf("restored in %s, want %s", restored, millionLimit)
	}
}

// fillRows writes keys with large Txns, of which count is a multiple.
func fillRows(ctx context.Context, clients []*clientv3.Client, prefix string, count int, value func(i int) string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	next := make(chan int)
	errs := make([]error, 32)
	var done sync.WaitGroup
	for i := range errs {
		done.Go(func() {
			for from := range next {
				ops := make([]clientv3.Op, fillTxn)
				for j := range ops {
					ops[j] = clientv3.OpPut(fmt.Sprintf("%s%08d", prefix, from+j), value(from+j))
				}
				if _, err := clients[i%len(clients)].Txn(ctx).Then(ops...).Commit(); err != nil {
					errs[i] = err
				}
			}
		})
	}
	for from := 0; from < count; from += fillTxn {
		next <- from
	}
	close(next)
	done.Wait()
	return errors.Join(errs...)
}
