package client

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// get reads a range.
func (s *servers) get(ctx context.Context, r *pb.RangeRequest) (answer *pb.RangeResponse, err error) {
	err = s.read(ctx, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		answer, err = pb.NewKVClient(conn).Range(ctx, r)
		return err
	})
	return answer, err
}

// txn does a Txn.
func (s *servers) txn(ctx context.Context, r *pb.TxnRequest) (answer *pb.TxnResponse, err error) {
	send := s.write
	if onlyReads(r) {
		send = s.read
	}
	err = send(ctx, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		answer, err = pb.NewKVClient(conn).Txn(ctx, r)
		return err
	})
	return answer, err
}

func onlyReads(r *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if op.GetRequestRange() == nil {
				return false
			}
		}
	}
	return true
}

// one makes a Txn of one operation.
func one(op *pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Success: []*pb.RequestOp{op}} }

func putOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func deleteOp(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func rangeOp(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

// put puts a key.
func (s *servers) put(ctx context.Context, r *pb.PutRequest) (*pb.ResponseHeader, *pb.PutResponse, error) {
	answer, err := s.txn(ctx, one(putOp(r)))
	if err != nil {
		return nil, nil, err
	}
	return answer.GetHeader(), firstOf(answer).GetResponsePut(), nil
}

// del deletes keys.
func (s *servers) del(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.ResponseHeader, *pb.DeleteRangeResponse, error) {
	answer, err := s.txn(ctx, one(deleteOp(r)))
	if err != nil {
		return nil, nil, err
	}
	return answer.GetHeader(), firstOf(answer).GetResponseDeleteRange(), nil
}

func firstOf(answer *pb.TxnResponse) *pb.ResponseOp {
	if all := answer.GetResponses(); len(all) > 0 {
		return all[0]
	}
	return nil
}
