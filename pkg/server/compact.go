package server

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Compact drops history below a revision.
func (s *kvServer) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	revision, err := s.cfg.KV.Compact(ctx, r.Revision, r.Physical)
	if err != nil {
		return nil, toGRPC(err)
	}
	return &pb.CompactionResponse{Header: s.headerAt(revision)}, nil
}
