package faults

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/process"
)

// nasty is a Txn that fails after it has written.
type nasty struct {
	name string
	ops  []clientv3.Op
	want error
}

// nastyTxns are Txns of which etcd 3.7 dies, and others like them. Etcd finds a put of a key that the same Txn deletes, and
// refuses it as a duplicate, but not where the delete is of all keys from one on. The store has the keys k and other, was
// compacted to a revision above 1, and has not reached future.
func nastyTxns(future int64) []nasty {
	write := clientv3.OpPut("early", "value")
	remove := clientv3.OpDelete("k")
	removeFrom := clientv3.OpDelete("f", clientv3.WithFromKey())
	nested := func(ops ...clientv3.Op) clientv3.Op { return clientv3.OpTxn(nil, ops, nil) }
	value := clientv3.OpPut("k", "", clientv3.WithIgnoreValue())
	lease := clientv3.OpPut("k", "v", clientv3.WithIgnoreLease())
	unknown := clientv3.OpPut("new", "v", clientv3.WithLease(77))
	ahead := clientv3.OpGet("k", clientv3.WithRev(future))
	behind := clientv3.OpGet("k", clientv3.WithRev(1))
	return []nasty{
		{"ignore_value after a delete", []clientv3.Op{removeFrom, value}, rpctypes.ErrKeyNotFound},
		{"ignore_lease after a delete", []clientv3.Op{removeFrom, lease}, rpctypes.ErrKeyNotFound},
		{"ignore_value after a nested delete", []clientv3.Op{nested(write, removeFrom), value}, rpctypes.ErrKeyNotFound},
		{"nested ignore_lease after a nested delete", []clientv3.Op{nested(removeFrom), nested(nested(lease))}, rpctypes.ErrKeyNotFound},
		{"ignore_value after a delete of this key", []clientv3.Op{nested(remove), value}, rpctypes.ErrDuplicateKey},
		{"ignore_value of a key that is not there", []clientv3.Op{write, clientv3.OpPut("none", "", clientv3.WithIgnoreValue())}, rpctypes.ErrKeyNotFound},
		{"unknown lease after a put", []clientv3.Op{write, unknown}, rpctypes.ErrLeaseNotFound},
		{"unknown lease after a delete", []clientv3.Op{remove, nested(unknown)}, rpctypes.ErrLeaseNotFound},
		{"unknown lease in a nested Txn before a put", []clientv3.Op{nested(unknown), write}, rpctypes.ErrLeaseNotFound},
		{"future revision after a put", []clientv3.Op{write, ahead}, rpctypes.ErrFutureRev},
		{"future revision in a nested Txn", []clientv3.Op{remove, nested(write, ahead)}, rpctypes.ErrFutureRev},
		{"compacted revision after a put", []clientv3.Op{write, behind}, rpctypes.ErrCompacted},
		{"compacted revision in a nested Txn", []clientv3.Op{nested(remove), nested(behind)}, rpctypes.ErrCompacted},
	}
}

// TestTxnThatFailsHalfWayChangesNothing sends Txns that fail after they have written, alone and beside writers. Each must
// end with etcd's error for the operation, change nothing, and leave the store alive.
func TestTxnThatFailsHalfWayChangesNothing(t *testing.T) {
	p := newPatient(t, t.TempDir(), process.ProfileEtcd)
	for _, key := range []string{"k", "other", "k"} {
		_, err := p.client.Put(t.Context(), key, "value")
		ok(t, err)
	}
	_, err := p.client.Compact(t.Context(), 3)
	ok(t, err)
	base, err := history.Revision(t.Context(), p.client)
	ok(t, err)
	p.ledger.Base = base
	before, err := history.ReadAll(t.Context(), p.client, "", base)
	ok(t, err)
	for _, n := range nastyTxns(base + 1_000_000) {
		t.Run(n.name, func(t *testing.T) {
			if _, err := p.client.Txn(t.Context()).Then(n.ops...).Commit(); !errors.Is(err, n.want) {
				t.Errorf("ended with %v, want %v", err, n.want)
			}
			now, err := history.Revision(t.Context(), p.client)
			ok(t, err)
			after, err := history.ReadAll(t.Context(), p.client, "", 0)
			ok(t, err)
			if err := history.State(before).Same(after); err != nil || now != base {
				t.Errorf("revision %d, was %d; %v", now, base, err)
			}
		})
	}
	s := newSquad("beside", 8, p.Clients(t, 4), *flagSeed, true)
	s.Start(t.Context())
	enough := make(chan error, 1)
	go func() { enough <- s.Await(t.Context(), 1000) }()
	refused, err := sendUntil(t, p.client, nastyTxns(base+1_000_000), enough)
	ok(t, err)
	p.take(s.End(base))
	ok(t, s.Err())
	v := p.examine(t)
	process.RequireNoPanic(t, p.Proc)
	ok(t, p.Restart())
	p.examine(t)
	t.Logf("%d Txns refused beside %d acknowledged writes", refused, v.Acknowledged)
}

// sendUntil sends Txns in turn until done has something, and returns how many, and what it has.
func sendUntil(t *testing.T, c *clientv3.Client, list []nasty, done <-chan error) (sent int, err error) {
	t.Helper()
	for {
		for _, n := range list {
			select {
			case err := <-done:
				return sent, err
			default:
			}
			if _, err := c.Txn(t.Context()).Then(n.ops...).Commit(); !errors.Is(err, n.want) {
				t.Errorf("%s: ended with %v, want %v", n.name, err, n.want)
				return sent, nil
			}
			sent++
		}
	}
}
