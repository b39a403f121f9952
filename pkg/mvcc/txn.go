package mvcc

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Answer is the answer to a Txn before its values are in it. Complete fetches
// them; it is called once, after the Txn's group is published or, for a Txn that
// wrote nothing, when everything it saw is.
type Answer struct {
	Response *pb.TxnResponse
	Wrote    bool

	store *Store
	pin   uint32
	fills []func(ctx context.Context) error
}

// Complete fetches what the answer still lacks and releases what the Txn held.
// The response is then the caller's; its values are shared and must not be
// changed.
func (a *Answer) Complete(ctx context.Context) (*pb.TxnResponse, error) {
	defer a.Release()
	for _, fill := range a.fills {
		if err := fill(ctx); err != nil {
			return nil, err
		}
	}
	return a.Response, nil
}

// Release is for answers that nobody will read.
func (a *Answer) Release() { a.store.pins.leave(a.pin) }

// ReadOnly reports whether a Txn can change nothing: all its operations are
// Ranges. (A nested Txn does not count as a read, as in etcd.)
func ReadOnly(r *pb.TxnRequest) bool {
	for _, list := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range list {
			if op.GetRequestRange() == nil {
				return false
			}
		}
	}
	return true
}

// ReadTxn answers a Txn that is ReadOnly at the committed revision.
func (s *Store) ReadTxn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	t := &txn{s: s, a: &Answer{store: s, pin: s.pins.enter()}}
	t.begin = s.committed.Load()
	if err := t.run(ctx, r); err != nil {
		t.a.Release()
		return nil, err
	}
	return t.a.Complete(ctx)
}

// EvaluateTxn evaluates a Txn in order after everything evaluated before, adds
// the rows it makes to b, and gives its answer. After an error nothing has
// changed. The Txn must have passed the server's checks of its form.
func (s *Store) EvaluateTxn(ctx context.Context, b *Batch, r *pb.TxnRequest) (*Answer, error) {
	t := &txn{s: s, b: b, a: &Answer{store: s, pin: s.pins.enter()}}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.begin = s.revision
	m := b.mark()
	if err := t.run(ctx, r); err != nil {
		s.undoTo(b, m)
		t.a.Release()
		return nil, err
	}
	if t.changes > 0 {
		s.revision++
		b.last = s.revision
		t.a.Wrote = true
	}
	return t.a, nil
}

// txn is one evaluation.
type txn struct {
	s       *Store
	b       *Batch // nil for a read
	a       *Answer
	begin   int64 // revision before the Txn
	changes int32
}

// revision is the one that the operations of the Txn see: its own writes
// included.
func (t *txn) revision() int64 {
	if t.changes > 0 {
		return t.begin + 1
	}
	return t.begin
}

func (t *txn) run(ctx context.Context, r *pb.TxnRequest) error {
	path, err := t.s.decide(ctx, r, t.begin, make([]bool, 0, 4))
	if err != nil {
		return err
	}
	if _, err := t.check(r, path); err != nil {
		return err
	}
	resp, _, err := t.execute(ctx, r, path)
	if err != nil {
		return err
	}
	resp.Header.Revision = t.revision()
	t.a.Response = resp
	return nil
}

// check refuses, before anything is written, what would fail: revisions that
// cannot be read, leases that do not exist, ignore_value and ignore_lease on
// absent keys. It returns how many Txns of path were used up.
func (t *txn) check(r *pb.TxnRequest, path []bool) (used int, err error) {
	used = 1
	for _, op := range branch(r, path[0]) {
		switch o := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			if rev := o.RequestRange.GetRevision(); rev != 0 {
				err = t.checkRange(rev)
			}
		case *pb.RequestOp_RequestPut:
			err = t.checkPut(o.RequestPut)
		case *pb.RequestOp_RequestTxn:
			var n int
			n, err = t.check(o.RequestTxn, path[used:])
			used += n
		}
		if err != nil {
			return used, err
		}
	}
	return used, nil
}

func (t *txn) checkRange(rev int64) error {
	switch {
	case rev > t.begin:
		return ErrFutureRevision
	case rev < t.s.compacted.Load():
		return ErrCompacted
	}
	return nil
}

func (t *txn) checkPut(r *pb.PutRequest) error {
	if r.Lease != 0 && !t.s.lessor.exists(r.Lease) {
		return ErrLeaseNotFound
	}
	if (r.IgnoreValue || r.IgnoreLease) && t.s.find(r.Key, t.begin) == nil {
		return ErrKeyNotFound
	}
	return nil
}

// execute runs the operations of the branch taken, in order. It returns how many
// Txns of path were used up.
func (t *txn) execute(ctx context.Context, r *pb.TxnRequest, path []bool) (*pb.TxnResponse, int, error) {
	ops := branch(r, path[0])
	used := 1
	resp := &pb.TxnResponse{
		Header:    &pb.ResponseHeader{},
		Succeeded: path[0],
		Responses: make([]*pb.ResponseOp, len(ops)),
	}
	for i, op := range ops {
		out := &pb.ResponseOp{}
		var err error
		switch o := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			err = t.rangeOp(ctx, o.RequestRange, out)
		case *pb.RequestOp_RequestPut:
			err = t.putOp(ctx, o.RequestPut, out)
		case *pb.RequestOp_RequestDeleteRange:
			err = t.deleteOp(ctx, o.RequestDeleteRange, out)
		case *pb.RequestOp_RequestTxn:
			var nested *pb.TxnResponse
			var n int
			nested, n, err = t.execute(ctx, o.RequestTxn, path[used:])
			out.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: nested}
			used += n
		}
		if err != nil {
			return nil, used, err
		}
		resp.Responses[i] = out
	}
	return resp, used, nil
}

func (t *txn) rangeOp(ctx context.Context, r *pb.RangeRequest, out *pb.ResponseOp) error {
	current := t.revision()
	if err := t.s.checkRevision(r.Revision, current); err != nil {
		return err
	}
	f, err := t.s.selectRecords(ctx, r, current)
	if err != nil {
		return err
	}
	body := &pb.ResponseOp_ResponseRange{}
	out.Response = body
	t.a.fills = append(t.a.fills, func(ctx context.Context) (err error) {
		body.ResponseRange, err = f.response(ctx, t.s)
		return err
	})
	return nil
}

func (t *txn) putOp(ctx context.Context, r *pb.PutRequest, out *pb.ResponseOp) error {
	s := t.s
	e := s.entry(r.Key)
	var prev *record // live before
	if e != nil {
		if prev = e.head.Load(); prev != nil && prev.tombstone {
			prev = nil
		}
	}
	value, lease := r.Value, r.Lease
	if r.IgnoreValue || r.IgnoreLease {
		// The check has seen the key, but the Txn may have deleted it since.
		if prev == nil {
			return ErrKeyNotFound
		}
		var err error
		if r.IgnoreValue {
			if value, err = s.value(ctx, prev); err != nil {
				return err
			}
		}
		if r.IgnoreLease {
			lease = prev.lease
		}
	}
	if e == nil {
		e = s.newEntry(r.Key)
	}
	t.put(e, prev, value, lease)
	resp := &pb.PutResponse{Header: &pb.ResponseHeader{Revision: t.begin + 1}}
	out.Response = &pb.ResponseOp_ResponsePut{ResponsePut: resp}
	if r.PrevKv && prev != nil {
		t.a.fills = append(t.a.fills, func(ctx context.Context) (err error) {
			resp.PrevKv, err = s.keyValue(ctx, prev)
			return err
		})
	}
	return nil
}

// newEntry adds a key to the tree. The record that makes it exist follows.
func (s *Store) newEntry(key []byte) *entry {
	e := &entry{key: append(make([]byte, 0, len(key)), key...)}
	s.treeMu.Lock()
	s.tree.Set(treeKey(e.key), e)
	s.treeMu.Unlock()
	return e
}

// put makes a new record over prev, which is nil for a key that does not exist.
func (t *txn) put(e *entry, prev *record, value []byte, lease int64) {
	rev := t.begin + 1
	rec := &record{entry: e, mod: rev, create: rev, version: 1, lease: lease, sub: t.changes, size: int32(len(value))}
	row := sqllog.Row{Kind: sqllog.KindPut, Revision: sqllog.Revision(rev), Sub: int64(t.changes),
		Key: e.key, Value: value, Lease: lease}
	if prev != nil {
		rec.create, rec.version = prev.create, prev.version+1
		row.PrevRevision = sqllog.Revision(prev.mod)
	}
	row.CreateRevision, row.Version = sqllog.Revision(rec.create), rec.version
	rec.setValue(value)
	rec.id = t.s.addRow(t.b, row)
	t.s.push(t.b, rec)
	t.s.lessor.attach(lease, e)
	t.changes++
}

func (t *txn) deleteOp(ctx context.Context, r *pb.DeleteRangeRequest, out *pb.ResponseOp) error {
	records, err := t.s.collect(ctx, newSpan(r.Key, r.RangeEnd), t.revision(), 0, nil)
	if err != nil {
		return err
	}
	for _, rec := range records {
		t.delete(rec)
	}
	resp := &pb.DeleteRangeResponse{
		Header:  &pb.ResponseHeader{Revision: t.revision()},
		Deleted: int64(len(records)),
	}
	out.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: resp}
	if r.PrevKv && len(records) > 0 {
		t.a.fills = append(t.a.fills, func(ctx context.Context) (err error) {
			resp.PrevKvs, err = t.s.keyValues(ctx, records, false)
			return err
		})
	}
	return nil
}

// delete puts a tombstone over a live record.
func (t *txn) delete(rec *record) {
	rev := t.begin + 1
	tomb := &record{entry: rec.entry, mod: rev, sub: t.changes, tombstone: true}
	tomb.id = t.s.addRow(t.b, sqllog.Row{Kind: sqllog.KindDelete, Revision: sqllog.Revision(rev),
		Sub: int64(t.changes), Key: rec.entry.key, PrevRevision: sqllog.Revision(rec.mod)})
	t.s.push(t.b, tomb)
	t.changes++
}
