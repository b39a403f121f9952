package s3snap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// settle brings the log to the chain, and makes this node Primary where it has
// to be one of a new epoch.
func (s *starter) settle(ctx context.Context, rel relation) error {
	if err := rel.cluster.mayGoAlone(s.writer); err != nil {
		return err
	}
	switch {
	case rel.found && !s.cfg.CommitByChunk && !s.adopted:
		return nil // with a log of its own the node serves, and founds the chain meanwhile
	case rel.found:
		if err := s.findBootstrap(ctx); err != nil {
			return err
		}
		end, err := found(ctx, nil, s.cfg.Store, s.writer, s.log, s.bootstrap, s.log.Head)
		if err != nil {
			return err
		}
		rel = relation{boundary: end}
	case rel.replace != "":
		return s.replaceLog(ctx, rel.replace)
	case rel.behind():
		end, err := s.catchUp(ctx, rel)
		if errors.Is(err, errReplaced) {
			return nil
		}
		if err != nil {
			return err
		}
		rel.boundary = end
	}
	s.chain = s.newChain(rel.boundary)
	if !s.cfg.CommitByChunk && !s.adopted {
		return nil
	}
	return s.lead(ctx)
}

// catchUp makes the log end where the chain does, which is what it returns. What
// the chain does not have is set aside first. errReplaced: the log had to be
// replaced, and all that settle does is done for the new one.
func (s *starter) catchUp(ctx context.Context, rel relation) (sqllog.Head, error) {
	if rel.cut {
		if err := s.cut(ctx, rel.common); errors.Is(err, sqllog.ErrGap) {
			return sqllog.Head{}, s.replaced(ctx, "it disagrees with the chain below rows that are compacted")
		} else if err != nil {
			return sqllog.Head{}, err
		}
	}
	if err := s.beginAdoption(); err != nil {
		return sqllog.Head{}, err
	}
	if err := s.adopt(rel.rest); err != nil {
		return sqllog.Head{}, err
	}
	return s.readOn(ctx, rel.boundary)
}

// readOn appends what the chain has after a boundary that the log has reached.
func (s *starter) readOn(ctx context.Context, boundary sqllog.Head) (end sqllog.Head, err error) {
	started, rows := time.Now(), 0
	end, err = readChain(ctx, s.cfg.Store, s.writer.Cluster, boundary, nil, func(c chunk) error {
		rows += len(c.rows)
		return s.adopt(c.rows)
	})
	if err == nil && rows > 0 {
		s.cfg.Logger.WithField("rows", rows).WithField("took", time.Since(started)).Info("took over rows from object storage")
	}
	return end, err
}

func (s *starter) adopt(rows []sqllog.Row) error {
	if len(rows) == 0 {
		return nil
	}
	if err := s.append(rows); err != nil {
		return fmt.Errorf("take over rows %d to %d: %w", rows[0].ID, rows[len(rows)-1].ID, err)
	}
	return nil
}

// append writes rows of the chain to the log, in a cluster under a promise.
func (s *starter) append(rows []sqllog.Row) error {
	if s.in == nil {
		return s.log.Append(rows)
	}
	epoch, err := s.in(rows[len(rows)-1].Epoch)
	if err != nil {
		return err
	}
	return s.log.AppendIn(epoch, rows)
}

// truncate cuts the log, in a cluster under a promise.
func (s *starter) truncate(ctx context.Context, to sqllog.Head) error {
	if s.in == nil {
		return s.log.Truncate(ctx, to)
	}
	epoch, err := s.in(to.Epoch)
	if err != nil {
		return err
	}
	return s.log.TruncateIn(epoch, to)
}

// newChain continues the chain after its end, as it was found after s.looked.
func (s *starter) newChain(end sqllog.Head) *Chain {
	c := s.cfg.chain(s.writer, end)
	c.sighted(s.looked, s.clocked)
	return c
}

// cut sets the rows above a row aside in a chunk file beside the log, and then
// removes them from it.
func (s *starter) cut(ctx context.Context, common sqllog.Head) error {
	head := s.log.Head()
	var rows []sqllog.Row
	err := s.log.Scan(ctx, common.ID, head.ID, func(r *sqllog.Row) error {
		kept := *r
		kept.Key, kept.Value = append([]byte(nil), r.Key...), append([]byte(nil), r.Value...)
		rows = append(rows, kept)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read rows to set aside: %w", err)
	}
	if int64(len(rows)) != int64(head.ID-common.ID) {
		return fmt.Errorf("set rows aside: %w: some are compacted", sqllog.ErrGap)
	}
	path := fmt.Sprintf("%s.aside-%d-%d-%s.chunk", s.cfg.Path, common.ID+1, head.ID, stamp())
	body, err := rowfile.Encode(rowfile.Header{
		Kind: rowfile.KindChunk, Cluster: s.writer.Cluster, Node: s.writer.Node, Incarnation: s.writer.Incarnation,
		First: common.ID + 1, Before: common.Epoch, Head: head, Written: time.Now().UnixMilli(),
	}, rows)
	if err != nil {
		return fmt.Errorf("encode rows to set aside: %w", err)
	}
	if err := writeSynced(path, body); err != nil {
		return fmt.Errorf("set rows aside: %w", err)
	}
	s.cfg.Logger.WithField("file", path).WithField("rows", len(rows)).
		Log(s.severity(), "the log disagrees with object storage; its rows from there on are set aside in a file")
	return s.truncate(ctx, common)
}

// replaceLog sets the whole log aside and starts as from an empty disk.
func (s *starter) replaceLog(ctx context.Context, why string) error {
	if err := s.setAside(why); err != nil {
		return err
	}
	return s.open(ctx)
}

// setAside closes the log and takes its files out of the way.
func (s *starter) setAside(why string) error {
	err := s.log.Close()
	s.log = nil
	if err != nil {
		return fmt.Errorf("close log to set it aside: %w", err)
	}
	aside := s.cfg.Path + ".aside-" + stamp()
	// The log itself goes last: until then the next start finds it, and does this
	// again.
	for _, suffix := range []string{"-shm", "-wal", ""} {
		err := os.Rename(s.cfg.Path+suffix, aside+suffix)
		if err != nil && !(suffix != "" && errors.Is(err, os.ErrNotExist)) {
			return fmt.Errorf("set log aside: %w", err)
		}
	}
	if err := syncFolder(s.cfg.Path); err != nil {
		return fmt.Errorf("set log aside: %w", err)
	}
	s.cfg.Logger.WithField("file", aside).WithField("reason", why).
		Error("the log cannot be brought to what object storage holds; it is set aside, and another one is loaded")
	return nil
}

// errReplaced: the log was replaced, and is settled.
var errReplaced = errors.New("log is replaced")

// replaced is replaceLog for those who have more to do with the log otherwise.
func (s *starter) replaced(ctx context.Context, why string) error {
	if s.cluster {
		return s.markReplaced(why)
	}
	if err := s.replaceLog(ctx, why); err != nil {
		return err
	}
	return errReplaced
}

// severity is how bad it is that rows are set aside: in a cluster a Primary that
// fails may leave some that nobody was told of.
func (s *starter) severity() logrus.Level {
	if s.cluster {
		return logrus.WarnLevel
	}
	return logrus.ErrorLevel
}

// stamp is the present as it is put into names of files.
func stamp() string { return time.Now().UTC().Format("20060102T150405.000Z") }

// lead makes this node Primary of a new epoch: what the chain lacks is uploaded,
// then the epoch row is written to it, and then to the log. An older Primary that is
// busy may take one position after the other before this node sees them; it stops
// when it sees the new epoch in cluster.json.
func (s *starter) lead(ctx context.Context) error {
	least := max(s.chain.End().Epoch, s.log.Head().Epoch) + 1
	if s.adopted {
		least = max(least, 2) // epoch 1 is that of a log on its own, which may not have uploaded anything yet
	}
	epoch, err := raiseEpoch(ctx, s.cfg.Store, least)
	if err != nil {
		return fmt.Errorf("ask for an epoch: %w", err)
	}
	err = s.leadIn(ctx, epoch)
	if errors.Is(err, errReplaced) {
		return nil
	}
	return err
}

// leadIn makes this node Primary of an epoch that was asked for. errReplaced as
// catchUp.
func (s *starter) leadIn(ctx context.Context, epoch sqllog.Epoch) error {
	for {
		err := s.tryLead(ctx, epoch)
		if !errors.Is(err, ErrFenced) {
			return err
		}
		end := s.chain.End()
		rel, cmpErr := s.compareLoud(ctx)
		if cmpErr != nil {
			return cmpErr
		}
		newest, readErr := s.settleAgain(ctx, rel)
		if readErr != nil {
			return readErr
		}
		if newest.ID == end.ID || newest.Epoch >= epoch {
			return fmt.Errorf("become primary of epoch %d: %w", epoch, err)
		}
		s.chain = s.newChain(newest)
	}
}

// settleAgain takes over what an older Primary has written meanwhile, and returns
// the chain's end, or errReplaced as catchUp does.
func (s *starter) settleAgain(ctx context.Context, rel relation) (sqllog.Head, error) {
	if rel.found {
		return sqllog.Head{}, fmt.Errorf("%w: %s is gone", ErrCorruptChain, clusterKey)
	}
	if rel.replace != "" {
		return sqllog.Head{}, s.replaced(ctx, rel.replace)
	}
	if !rel.behind() {
		return rel.boundary, nil
	}
	return s.catchUp(ctx, rel)
}

// tryLead uploads the rest of the log and the epoch row.
func (s *starter) tryLead(ctx context.Context, epoch sqllog.Epoch) error {
	head := s.log.Head()
	if newest := max(head.Epoch, s.chain.End().Epoch); newest >= epoch {
		return fmt.Errorf("%w: there are rows of epoch %d", ErrFenced, newest)
	}
	for s.chain.End().ID < head.ID {
		if _, err := uploadPiece(ctx, s.chain, s.log, head.ID, s.cfg.UploadBytes); err != nil {
			return fmt.Errorf("upload the log: %w", err)
		}
	}
	row := sqllog.Row{
		ID: head.ID + 1, Epoch: epoch, Revision: head.Revision, Kind: sqllog.KindEpoch, WrittenAt: time.Now().UnixMilli(),
	}
	if err := s.chain.Append(ctx, []sqllog.Row{row}); err != nil {
		return err
	}
	if err := s.appendOwn(epoch, row); err != nil {
		return fmt.Errorf("append the epoch row: %w", err)
	}
	s.cfg.Logger.WithField("epoch", epoch).WithField("id", row.ID).Info("primary of a new epoch")
	return s.endAdoption()
}

// appendOwn appends the epoch row, whose chunk exists.
func (s *starter) appendOwn(epoch sqllog.Epoch, row sqllog.Row) error {
	if s.in == nil {
		return s.log.Append([]sqllog.Row{row})
	}
	return s.log.AppendIn(epoch, []sqllog.Row{row})
}

// writeSynced writes a new file and makes it durable.
func writeSynced(path string, body []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return syncFolder(path)
}
