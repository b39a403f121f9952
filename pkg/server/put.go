package server

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Put writes one key.
func (s *kvServer) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	if err := checkPut(r); err != nil {
		return nil, err
	}
	if err := s.checkSize(putBound(r), r); err != nil {
		return nil, err
	}
	op, header, err := s.single(ctx, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}})
	if err != nil {
		return nil, err
	}
	resp := op.GetResponsePut()
	if resp == nil {
		return nil, toGRPC(errNoAnswer)
	}
	resp.Header = header
	return resp, nil
}
