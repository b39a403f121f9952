package node

import (
	"context"
	"path/filepath"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/server"
	"github.com/kinsy/kinsy/pkg/sqllog"
	"github.com/kinsy/kinsy/pkg/transfer"
)

// snapshotter makes etcd database files of what is committed.
type snapshotter struct {
	log   *sqllog.Log
	store *mvcc.Store
}

var _ server.Snapshotter = snapshotter{}

// WriteSnapshot implements server.Snapshotter. Rows are not removed meanwhile.
func (s snapshotter) WriteSnapshot(ctx context.Context, dir string) (path, version string, err error) {
	defer s.log.HoldRemoval()()
	path = filepath.Join(dir, "etcd.db")
	view := transfer.View{Log: s.log, Compacted: s.log.Compaction()}
	view.At = s.store.Head()
	_, err = transfer.WriteEtcdDB(ctx, path, view)
	return path, transfer.EtcdStorageVersion, err
}
