package replicate

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

var _ Archive = (*s3snap.Archive)(nil)

// archive waits until the commit rule holds for rows that the log holds. A node
// whose position in the chain another one has taken can commit nothing any more.
func (p *Primary) archive(rows []sqllog.Row) error {
	if p.cfg.Archive == nil {
		return nil
	}
	if err := p.cfg.Archive.Commit(rows); err != nil {
		return archiveError(err)
	}
	return nil
}

// archiveErr is why object storage takes no writes now.
func (p *Primary) archiveErr() error {
	if p.quorum != nil {
		return p.quorum.uploadErr()
	}
	if p.cfg.Archive == nil {
		return nil
	}
	if err := p.cfg.Archive.Err(); err != nil {
		return archiveError(err)
	}
	return nil
}

// confirm returns nil when this node was the Primary after it was called.
func (p *Primary) confirm(ctx context.Context) error {
	if p.quorum != nil {
		return p.quorum.confirm(ctx)
	}
	if p.cfg.Archive == nil {
		return nil
	}
	if err := p.cfg.Archive.Confirm(ctx); err != nil {
		return archiveError(err)
	}
	return nil
}

// confirmRange confirms a read that is to be linearizable.
func (p *Primary) confirmRange(ctx context.Context, r *pb.RangeRequest) error {
	if r.Serializable {
		return nil
	}
	return p.confirm(ctx)
}

// confirmTxn confirms a Txn that only reads.
func (p *Primary) confirmTxn(ctx context.Context, r *pb.TxnRequest) error {
	if needsConfirmation(r) {
		return p.confirm(ctx)
	}
	return nil
}

// needsConfirmation reports whether a Txn that only reads is to be linearizable; as in
// etcd it need not be if none of its reads is to be.
func needsConfirmation(r *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if rr := op.GetRequestRange(); rr == nil || !rr.Serializable {
				return true
			}
		}
	}
	return len(r.Success)+len(r.Failure) == 0
}

// archiveError turns an error of object storage into what clients are told.
func archiveError(err error) error {
	switch {
	case !errors.Is(err, s3snap.ErrUnavailable) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		return err // the client's own
	case errors.Is(err, s3snap.ErrFenced):
		return fmt.Errorf("%w: %w", ErrNotPrimary, err)
	case errors.Is(err, s3snap.ErrStopped):
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
