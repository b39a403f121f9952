package transfer

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Defaults of PushOptions.
const (
	DefaultPushOps   = 128
	DefaultPushBytes = 1 << 20
)

// PushOptions says how a Pusher writes. Zero values mean the defaults.
type PushOptions struct {
	// Force writes into a server that has keys, over those of the same name, and
	// takes leases of the same id that are there.
	Force bool
	// MaxOps and MaxBytes bound one Txn. A server that refuses Txns of several
	// keys is then given one key at a time.
	MaxOps, MaxBytes int
}

// Pusher is a Sink that writes into a running server by its API. Keys get new
// revisions; the order of changes is kept. Leases are granted anew with their
// ids and full TTLs. A key whose lease is not in the history is put without one.
// It is not safe for concurrent use.
type Pusher struct {
	c      *Client
	ctx    context.Context
	opts   PushOptions
	leases map[int64]pushedLease // by id in the history
	ops    []*pb.RequestOp
	keys   map[string]struct{} // of ops
	bytes  int
	single bool // one key in each Txn
	rev    int64
}

// pushedLease is a lease in the server.
type pushedLease struct {
	id, ttl int64
}

var _ Sink = (*Pusher)(nil)

// Push begins an import into the server. ErrNotEmpty if it has keys and Force is
// not set. ctx ends all calls of the Pusher.
func (c *Client) Push(ctx context.Context, opts PushOptions) (*Pusher, error) {
	if opts.MaxOps <= 0 {
		opts.MaxOps = DefaultPushOps
	}
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = DefaultPushBytes
	}
	p := &Pusher{c: c, ctx: c.auth(ctx), opts: opts, leases: map[int64]pushedLease{}, keys: map[string]struct{}{}}
	r, err := c.kv.Range(p.ctx, &pb.RangeRequest{Key: everything, RangeEnd: everything, Limit: 1, KeysOnly: true})
	if err != nil {
		return nil, fmt.Errorf("look for keys in the target: %w", err)
	}
	if len(r.Kvs) > 0 && !opts.Force {
		return nil, fmt.Errorf("%w: %.80q is one", ErrNotEmpty, r.Kvs[0].Key)
	}
	p.rev = r.Header.GetRevision()
	return p, nil
}

// Revision is the server's revision after the last write.
func (p *Pusher) Revision() int64 { return p.rev }

// Add writes rows, all but the last few. After an error some may be written.
func (p *Pusher) Add(rows []sqllog.Row) error {
	for i := range rows {
		r := &rows[i]
		var err error
		switch r.Kind {
		case sqllog.KindLease:
			err = p.grant(r)
		case sqllog.KindPut:
			err = p.add(r, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{
				Key: append([]byte(nil), r.Key...), Value: append([]byte(nil), r.Value...), Lease: p.leases[r.Lease].id,
			}}})
		case sqllog.KindDelete:
			err = p.add(r, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
				RequestDeleteRange: &pb.DeleteRangeRequest{Key: append([]byte(nil), r.Key...)},
			}})
		case sqllog.KindCompact, sqllog.KindEpoch, sqllog.KindMember:
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Finish writes what is left.
func (p *Pusher) Finish(sqllog.Head, sqllog.Compaction) error { return p.flush() }

func (p *Pusher) grant(r *sqllog.Row) error {
	if r.Version == 0 {
		return nil
	}
	resp, err := p.c.lease.LeaseGrant(p.ctx, &pb.LeaseGrantRequest{ID: r.Lease, TTL: r.Version})
	if p.opts.Force && isError(err, rpctypes.ErrGRPCLeaseExist) {
		p.leases[r.Lease] = pushedLease{id: r.Lease, ttl: r.Version}
		return nil
	}
	if err != nil {
		return fmt.Errorf("grant lease %016x: %w", uint64(r.Lease), err)
	}
	p.leases[r.Lease] = pushedLease{id: resp.ID, ttl: r.Version}
	return nil
}

// isError tells whether a server has answered with one of etcd's errors.
func isError(err, want error) bool {
	var answer interface{ GRPCStatus() *status.Status }
	return errors.As(err, &answer) && answer.GRPCStatus().Message() == rpctypes.ErrorDesc(want)
}

// add puts an operation into the next Txn. A key is in a Txn once.
func (p *Pusher) add(r *sqllog.Row, op *pb.RequestOp) error {
	size := len(r.Key) + len(r.Value)
	_, again := p.keys[string(r.Key)]
	if again || len(p.ops) == p.opts.MaxOps || len(p.ops) > 0 && p.bytes+size > p.opts.MaxBytes {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.ops = append(p.ops, op)
	p.keys[string(r.Key)] = struct{}{}
	p.bytes += size
	return nil
}

func (p *Pusher) flush() error {
	ops := p.ops
	if len(ops) == 0 {
		return nil
	}
	p.ops, p.bytes = nil, 0
	clear(p.keys)
	if !p.single {
		err := p.txn(ops)
		if err == nil || len(ops) == 1 || status.Code(err) != codes.InvalidArgument {
			return err
		}
		p.single = true // nothing was written: arguments are checked first
	}
	for _, op := range ops {
		if err := p.txn([]*pb.RequestOp{op}); err != nil {
			return err
		}
	}
	return nil
}

// txn writes operations in one revision. Leases that have run out since they were
// granted are granted once more.
func (p *Pusher) txn(ops []*pb.RequestOp) error {
	resp, err := p.c.kv.Txn(p.ctx, &pb.TxnRequest{Success: ops})
	if isError(err, rpctypes.ErrGRPCLeaseNotFound) {
		if err = p.grantAgain(ops); err == nil {
			resp, err = p.c.kv.Txn(p.ctx, &pb.TxnRequest{Success: ops})
		}
	}
	if err != nil {
		return fmt.Errorf("write %d keys: %w", len(ops), err)
	}
	p.rev = resp.Header.GetRevision()
	return nil
}

func (p *Pusher) grantAgain(ops []*pb.RequestOp) error {
	wanted := map[int64]bool{}
	for _, op := range ops {
		wanted[op.GetRequestPut().GetLease()] = true
	}
	for _, l := range p.leases {
		if !wanted[l.id] {
			continue
		}
		_, err := p.c.lease.LeaseGrant(p.ctx, &pb.LeaseGrantRequest{ID: l.id, TTL: l.ttl})
		if err != nil && !isError(err, rpctypes.ErrGRPCLeaseExist) {
			return fmt.Errorf("grant lease %016x again: %w", uint64(l.id), err)
		}
	}
	return nil
}
