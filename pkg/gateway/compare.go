package gateway

import (
	"net/http"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// operands are the fields that a compare may have, by target.
var operands = map[pb.Compare_CompareTarget]string{
	pb.Compare_VERSION: "version", pb.Compare_CREATE: "create_revision", pb.Compare_MOD: "mod_revision",
	pb.Compare_VALUE: "value", pb.Compare_LEASE: "lease",
}

func decodeCompare(o object) (*pb.Compare, error) {
	target, err := compareTarget(o)
	if err != nil {
		return nil, err
	}
	result, given, known := o.enum("result", pb.Compare_CompareResult_value)
	if !known {
		return nil, errorf(http.StatusNotImplemented, "Unsupported comparison result: %s", clip(given))
	}
	d := decoder{object: o}
	c := &pb.Compare{Target: target, Result: pb.Compare_CompareResult(result), Key: d.bytes("key"), RangeEnd: d.bytes("range_end")}
	switch target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: d.int64("version")}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: d.int64("create_revision")}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: d.int64("mod_revision")}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: d.leaseID("lease")}
	case pb.Compare_VALUE:
		if o.get("value") == nil { // as the value of a key that is not there
			c.Target, c.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{}
			break
		}
		c.TargetUnion = &pb.Compare_Value{Value: d.bytes("value")}
	}
	return c, d.err
}

// compareTarget reads the target. Without one it is VERSION, which etcd's JSON leaves
// out, unless there is another's operand.
func compareTarget(o object) (pb.Compare_CompareTarget, error) {
	target, given, known := o.enum("target", pb.Compare_CompareTarget_value)
	if !known {
		return 0, errorf(http.StatusNotImplemented, "Unsupported comparison target: %s", clip(given))
	}
	if o.get("target") == nil {
		for t, operand := range operands {
			if t != pb.Compare_VERSION && o.get(operand) != nil {
				return 0, errorf(http.StatusNotImplemented, "Unsupported comparison target: undefined")
			}
		}
	}
	return pb.Compare_CompareTarget(target), nil
}
