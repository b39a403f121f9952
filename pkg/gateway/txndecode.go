package gateway

import (
	"net/http"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// maxNested is how deep Txns may stand in Txns.
const maxNested = 3

var (
	errTooDeep   = errorf(http.StatusBadRequest, "txn is nested too deep")
	errTooMany   = errorf(http.StatusBadRequest, "etcdserver: too many operations in txn request")
	errTooWide   = errorf(http.StatusBadRequest, "too many operations of a range of keys in txn request, at most %d", maxWide)
	errUnknownOp = errorf(http.StatusBadRequest, "a txn operation should have one of request_put, request_range, request_delete_range, request_txn")
)

// txnDecoder counts what it decodes.
type txnDecoder struct {
	maxOps    int
	ops, wide int // compares and operations so far, and those of a range of keys
}

func (d *txnDecoder) txn(o object, depth int) (*pb.TxnRequest, error) {
	if depth < 0 {
		return nil, errTooDeep
	}
	r := &pb.TxnRequest{}
	err := d.list(o, "compare", func(raw object) error {
		c, err := decodeCompare(raw)
		r.Compare = append(r.Compare, c)
		if err != nil {
			return err
		}
		return d.count(c.RangeEnd)
	})
	if err != nil {
		return nil, err
	}
	if r.Success, err = d.branch(o, "success", depth); err != nil {
		return nil, err
	}
	r.Failure, err = d.branch(o, "failure", depth)
	return r, err
}

func (d *txnDecoder) branch(o object, name string, depth int) (ops []*pb.RequestOp, err error) {
	err = d.list(o, name, func(raw object) error {
		op, err := d.op(raw, depth)
		ops = append(ops, op)
		return err
	})
	return ops, err
}

// list decodes a list of objects.
func (d *txnDecoder) list(o object, name string, fn func(object) error) error {
	raw := o.get(name)
	if raw == nil {
		return nil
	}
	ok, err := eachElement(raw, func(raw []byte) error {
		element, ok := parseObject(raw)
		if !ok {
			return badField(name, "a list of objects")
		}
		return fn(element)
	})
	if !ok {
		return badField(name, "a list of objects")
	}
	return err
}

// count notes a compare or an operation.
func (d *txnDecoder) count(rangeEnd []byte) error {
	if d.ops++; d.ops > d.maxOps {
		return errTooMany
	}
	if len(rangeEnd) > 0 {
		if d.wide++; d.wide > maxWide {
			return errTooWide
		}
	}
	return nil
}

func (d *txnDecoder) op(o object, depth int) (*pb.RequestOp, error) {
	if len(o) != 1 {
		return nil, errUnknownOp
	}
	inner, ok := parseObject(o[0].value)
	if !ok {
		return nil, badField(o[0].name, "an object")
	}
	switch o[0].name {
	case "request_put":
		r, err := decodePut(inner)
		if err != nil {
			return nil, err
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}, d.count(nil)
	case "request_range":
		r, err := decodeRange(inner)
		if err != nil {
			return nil, err
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}, d.count(r.RangeEnd)
	case "request_delete_range":
		r, err := decodeDelete(inner)
		if err != nil {
			return nil, err
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}, d.count(r.RangeEnd)
	case "request_txn":
		if err := d.count(nil); err != nil {
			return nil, err
		}
		r, err := d.txn(inner, depth-1)
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}, err
	}
	return nil, errUnknownOp
}
