package server

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// DeleteRange deletes one key or a range of keys.
func (s *kvServer) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if err := checkDelete(r); err != nil {
		return nil, err
	}
	if err := s.checkSize(deleteBound(r), r); err != nil {
		return nil, err
	}
	op, header, err := s.single(ctx, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}})
	if err != nil {
		return nil, err
	}
	resp := op.GetResponseDeleteRange()
	if resp == nil {
		return nil, toGRPC(errNoAnswer)
	}
	resp.Header = header
	return resp, nil
}
