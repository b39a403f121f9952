package s3snap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// openReplica opens the log of a node of a cluster, or makes one. ErrReplaced: it is
// to be called again.
func (s *starter) openReplica(ctx context.Context) error {
	if s.log != nil {
		err := s.log.Close()
		if s.log = nil; err != nil {
			return fmt.Errorf("close log to replace it: %w", err)
		}
	}
	mark, err := readMark(s.cfg.Path)
	if err != nil {
		return err
	}
	if err := s.openOwn(ctx); err != nil {
		return err
	}
	if s.log != nil && mark == nil {
		return s.joinSoon(ctx)
	}
	if s.log != nil && s.writer.Node == mark.node() {
		if err := s.retryLoud(ctx, func() error { return s.probe(ctx) }); err != nil {
			return err
		}
		if err := s.setAside(mark.Reason); err != nil {
			return err
		}
		s.log = nil
	}
	if s.log == nil {
		if err := s.openFromStore(ctx); err != nil {
			return err
		}
	}
	if err := s.retryLoud(ctx, func() error { return s.join(ctx) }); err != nil {
		return err
	}
	return s.succeed(ctx, mark)
}

// openOwn opens the log if there is one. Unlike that of a single node, one without
// rows is kept: it may be a voter's.
func (s *starter) openOwn(ctx context.Context) error {
	info, err := os.Stat(s.cfg.Path)
	if errors.Is(err, os.ErrNotExist) || (err == nil && info.Size() == 0) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find log: %w", err)
	}
	return s.reopen(ctx, s.cfg.Cluster)
}

// joinSoon is join for a log that is there: a node with one starts also if object
// storage does not answer.
func (s *starter) joinSoon(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	err := s.join(soon)
	if err == nil || ctx.Err() != nil || !(transient(err) || errors.Is(err, ErrUnavailable)) {
		return err
	}
	s.waiting(nil)
	s.cfg.Logger.WithError(err).Warn("object storage does not answer; the node starts without it")
	return nil
}

// join checks that the prefix is this log's, and begins a cluster on it where there
// is none.
func (s *starter) join(ctx context.Context) error {
	if err := s.probe(ctx); err != nil {
		return err
	}
	cluster, err := readCluster(ctx, s.cfg.Store)
	if errors.Is(err, object.ErrNotFound) {
		return s.begin(ctx)
	}
	if err != nil {
		return err
	}
	if err := s.mayUse(cluster); err != nil {
		return err
	}
	bootstrap, err := bootstrapVersion(ctx, s.cfg.Store)
	if err != nil {
		return err
	}
	if err := cluster.mayHave(bootstrap); err != nil || len(cluster.Members) > 0 {
		return err
	}
	return s.claim(ctx)
}

// mayUse checks that the prefix is of this node's cluster, and, where this is a
// single node, of nobody else.
func (s *starter) mayUse(cluster clusterFile) error {
	if !s.cluster {
		return cluster.mayGoAlone(s.writer)
	}
	if cluster.cluster() != s.cfg.Cluster {
		return fmt.Errorf("%w: the prefix is of cluster %s, this node of %016x; use another prefix or another cluster id",
			ErrOtherCluster, cluster.ClusterID, s.cfg.Cluster)
	}
	return nil
}

// begin makes a prefix without a history that of this log.
func (s *starter) begin(ctx context.Context) error {
	head, epoch := s.log.Head(), s.log.Promised()
	file := clusterFile{Bootstrap: s.bootstrap, Epoch: int64(epoch), Nonce: newNonce()}
	if epoch > 1 && file.Bootstrap == "" {
		version, err := s.bootstrapAt(ctx, head)
		if err != nil {
			return err
		}
		if file.Bootstrap = version; version == "" {
			return fmt.Errorf("%w: the log has seen epoch %d of a cluster, and the prefix is empty; give the node its prefix, or an empty disk",
				ErrNoHistory, epoch)
		}
	}
	file.setMembers([]elect.NodeID{elect.NodeID(s.writer.Node)})
	file.setRule(s.cfg.Rule, s.cfg.Rule)
	_, err := foundAs(ctx, nil, s.cfg.Store, s.writer, s.log, file, s.log.Head)
	return err
}

// bootstrapAt returns the version of bootstrap.snapshot if a log with this head was
// loaded from it by a start that went no further, else "".
func (s *starter) bootstrapAt(ctx context.Context, head sqllog.Head) (string, error) {
	src, info, err := s.cfg.Store.Get(ctx, bootstrapKey, 0, -1)
	if errors.Is(err, object.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer src.Close()
	file, err := rowfile.NewReader(src)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", bootstrapKey, err)
	}
	if file.Header().Head != head {
		return "", nil
	}
	return info.Version, nil
}

// claim makes this node the first voter of a single node's prefix. A log that is to
// be replaced is not made one: its disk would be gone.
func (s *starter) claim(ctx context.Context) error {
	rel, err := compare(ctx, s.cfg.Store, s.log)
	if err != nil {
		return err
	}
	if rel.replace != "" {
		return s.markReplaced(rel.replace)
	}
	_, err = s.control().Claim(ctx, s.cfg.Rule, s.log.Promised())
	return err
}

func (s *starter) control() *Control {
	return NewControl(s.cfg.Store, elect.NodeID(s.writer.Node), s.writer.Incarnation, s.cfg.Logger)
}

// replaceSuffix is of the name of the file that says that a log is to be replaced.
const replaceSuffix = ".replace"

// replaceMark is that file: a log that others use cannot be replaced, so the next
// start does it.
type replaceMark struct {
	Node   string `json:"node"` // whose log it is, 16 hexadecimal digits
	Reason string `json:"reason"`
}

func (m *replaceMark) node() uint64 {
	n, _ := elect.ParseNodeID(m.Node)
	return uint64(n)
}

// markReplaced notes, durably, that the log is to be replaced.
func (s *starter) markReplaced(why string) error {
	body, err := json.Marshal(replaceMark{Node: elect.NodeID(s.writer.Node).String(), Reason: why})
	if err == nil {
		err = os.Remove(s.cfg.Path + replaceSuffix)
	}
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = writeSynced(s.cfg.Path+replaceSuffix, body)
	}
	if err != nil {
		return fmt.Errorf("note that the log is to be replaced: %w", err)
	}
	return fmt.Errorf("%w: %s", ErrReplaced, why)
}

// readMark reads what markReplaced has noted, nil if nothing.
func readMark(path string) (*replaceMark, error) {
	body, err := os.ReadFile(path + replaceSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find out whether the log is to be replaced: %w", err)
	}
	var m replaceMark
	if err := json.Unmarshal(body, &m); err != nil || m.node() == 0 {
		// It was not written to its end, and nobody was told.
		return nil, os.Remove(path + replaceSuffix)
	}
	return &m, nil
}

// succeed makes the disk of this log the voter that the replaced one was, where that
// was the only one: nobody else could. It held nothing that counts and the chain
// lacks, for the chain disagreed with it, or had gone beyond it. The epoch is raised,
// since what the old disk promised is forgotten.
func (s *starter) succeed(ctx context.Context, mark *replaceMark) error {
	if mark == nil {
		return nil
	}
	self := elect.NodeID(s.writer.Node)
	err := s.retryLoud(ctx, func() error {
		_, err := s.control().update(ctx, func(f *clusterFile) error {
			if self == elect.NodeID(mark.node()) || len(f.Members) == 0 || !f.onlyVoter(mark.node()) {
				return errClaimed
			}
			f.setMembers([]elect.NodeID{self})
			f.Epoch++
			f.Changing = false
			return nil
		})
		if errors.Is(err, errClaimed) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := os.Remove(s.cfg.Path + replaceSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("note that the log is replaced: %w", err)
	}
	return syncFolder(s.cfg.Path)
}
