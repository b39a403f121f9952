package gateway

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/server"
)

// kvRange answers /v3/kv/range.
func (g *Gateway) kvRange(ctx context.Context, o object) ([]byte, error) {
	r, err := decodeRange(o)
	if err != nil {
		return nil, err
	}
	if err := server.CheckRange(r); err != nil {
		return nil, err
	}
	resp, err := g.cfg.KV.Range(ctx, r)
	if err != nil {
		return nil, err
	}
	b := appendHeader([]byte{'{'}, resp.Header.GetRevision())
	return append(appendRangeFields(append(b, ','), r, resp), '}'), nil
}

// kvPut answers /v3/kv/put.
func (g *Gateway) kvPut(ctx context.Context, o object) ([]byte, error) {
	r, err := decodePut(o)
	if err != nil {
		return nil, err
	}
	return g.single(ctx, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}})
}

// kvDeleteRange answers /v3/kv/deleterange.
func (g *Gateway) kvDeleteRange(ctx context.Context, o object) ([]byte, error) {
	r, err := decodeDelete(o)
	if err != nil {
		return nil, err
	}
	return g.single(ctx, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}})
}

// single runs a Txn of one operation, whose answer has the header beside it.
func (g *Gateway) single(ctx context.Context, op *pb.RequestOp) ([]byte, error) {
	resp, err := g.runTxn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{op}})
	if err != nil {
		return nil, err
	}
	b := appendHeader([]byte{'{'}, resp.Header.GetRevision())
	before := len(b)
	b = append(b, ',')
	if b = appendOpFields(b, op, resp.Responses[0]); len(b) == before+1 {
		b = b[:before]
	}
	return append(b, '}'), nil
}

func decodeRange(o object) (*pb.RangeRequest, error) {
	d := decoder{object: o}
	r := &pb.RangeRequest{
		Limit: d.int64("limit"), Revision: d.int64("revision"),
		SortOrder:    pb.RangeRequest_SortOrder(d.enum("sort_order", pb.RangeRequest_SortOrder_value)),
		SortTarget:   pb.RangeRequest_SortTarget(d.enum("sort_target", pb.RangeRequest_SortTarget_value)),
		Serializable: d.boolean("serializable"), KeysOnly: d.boolean("keys_only"), CountOnly: d.boolean("count_only"),
		MinModRevision: d.int64("min_mod_revision"), MaxModRevision: d.int64("max_mod_revision"),
		MinCreateRevision: d.int64("min_create_revision"), MaxCreateRevision: d.int64("max_create_revision"),
	}
	r.Key, r.RangeEnd = d.span()
	return r, d.err
}

func decodePut(o object) (*pb.PutRequest, error) {
	d := decoder{object: o}
	r := &pb.PutRequest{
		Key: d.bytes("key"), Value: d.bytes("value"), Lease: d.leaseID("lease"), PrevKv: d.boolean("prev_kv"),
		IgnoreValue: d.boolean("ignore_value"), IgnoreLease: d.boolean("ignore_lease"),
	}
	return r, d.err
}

func decodeDelete(o object) (*pb.DeleteRangeRequest, error) {
	d := decoder{object: o}
	r := &pb.DeleteRangeRequest{PrevKv: d.boolean("prev_kv")}
	r.Key, r.RangeEnd = d.span()
	return r, d.err
}

// appendRangeFields writes what a Range found. count and more are there only for
// requests that ask for a part.
func appendRangeFields(b []byte, r *pb.RangeRequest, resp *pb.RangeResponse) []byte {
	b = append(b, `"kvs":`...)
	b = appendKVs(b, resp.Kvs, r.KeysOnly)
	if r.CountOnly || r.Limit > 0 {
		b = append(b, `,"count":`...)
		b = appendInt(b, resp.Count)
	}
	if resp.More {
		b = append(b, `,"more":true`...)
	}
	return b
}
