package server

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Txn evaluates compares and one of two branches, all or none.
func (s *kvServer) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := s.checkTxn(r); err != nil {
		return nil, err
	}
	resp, err := s.cfg.KV.Txn(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	resp.Header = s.header(resp.Header)
	return resp, nil
}

// checkTxn applies every check a Txn must pass before the engine sees it.
func (s *kvServer) checkTxn(r *pb.TxnRequest) error {
	if err := checkOps(r, s.cfg.MaxTxnOps); err != nil {
		return err
	}
	if err := s.cfg.Profile.checkTxn(r); err != nil {
		return err
	}
	return s.checkSize(txnBound(r), r)
}

// errNoAnswer would be a bug of the engine: a Txn of one operation that was
// answered with none, or with another.
var errNoAnswer = errors.New("etcdserver: the operation has no answer")

// single runs one operation as a Txn and returns its answer.
func (s *kvServer) single(ctx context.Context, op *pb.RequestOp) (*pb.ResponseOp, *pb.ResponseHeader, error) {
	resp, err := s.cfg.KV.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{op}})
	if err != nil {
		return nil, nil, toGRPC(err)
	}
	if len(resp.Responses) != 1 {
		return nil, nil, toGRPC(errNoAnswer)
	}
	return resp.Responses[0], s.header(resp.Header), nil
}
