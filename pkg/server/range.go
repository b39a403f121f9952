package server

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// kvServer is etcd's KV service; its other verbs have files of their own.
type kvServer struct {
	*Server
	pb.UnsafeKVServer
}

var _ pb.KVServer = (*kvServer)(nil)

// Range reads keys.
func (s *kvServer) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := checkRange(r); err != nil {
		return nil, err
	}
	resp, err := s.cfg.KV.Range(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	resp.Header = s.header(resp.Header)
	return resp, nil
}
