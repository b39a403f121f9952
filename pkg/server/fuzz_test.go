package server

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// FuzzCheckTxn decodes any bytes as a Txn, in both profiles. Nothing may panic,
// and what passes keeps the rules that the engine relies on.
func FuzzCheckTxn(f *testing.F) {
	for _, r := range []*pb.TxnRequest{
		{},
		{Compare: []*pb.Compare{{Key: []byte("k")}}, Success: ops(putOp("k")), Failure: ops(getOp("k"))},
		{Success: ops(putOp("a"), delOp("b", "c"))},
		{Success: ops(txnOp(ops(putOp("a")), ops(delOp("a", ""))))},
		{Success: ops(delOp("a", "\x00"), putOp("b"))},
		{Failure: ops(&pb.RequestOp{})},
		nested(3, 2),
	} {
		data, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	netsy, etcd := idleKV(f, ProfileNetsy), idleKV(f, ProfileEtcd)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &pb.TxnRequest{}
		if proto.Unmarshal(data, r) != nil {
			return
		}
		before := proto.Clone(r)
		errNetsy, errEtcd := netsy.checkTxn(r), etcd.checkTxn(r)
		if !proto.Equal(before, r) {
			t.Fatal("the check changed the request")
		}
		if errEtcd == nil {
			mustBeChecked(t, r, DefaultMaxTxnOps)
			mustNotPutTwice(t, r)
		}
		if errNetsy != nil {
			return
		}
		if errEtcd != nil {
			t.Fatalf("netsy allows what etcd refuses: %v", errEtcd)
		}
		if n := maxMutations(t, r); n > 1 {
			t.Fatalf("%d mutations in the netsy profile", n)
		}
	})
}

// mustBeChecked fails on a nil message, an empty key or a list that is too long.
func mustBeChecked(t *testing.T, r *pb.TxnRequest, maxOps int) {
	longest := max(len(r.Compare), len(r.Success), len(r.Failure))
	if longest > maxOps {
		t.Fatalf("%d operations, %d allowed", longest, maxOps)
	}
	for _, c := range r.Compare {
		if len(c.Key) == 0 {
			t.Fatal("compare without key")
		}
	}
	for _, op := range append(append(ops(), r.Success...), r.Failure...) {
		var key []byte
		switch v := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			key = v.RequestRange.Key
		case *pb.RequestOp_RequestPut:
			key = v.RequestPut.Key
		case *pb.RequestOp_RequestDeleteRange:
			key = v.RequestDeleteRange.Key
		case *pb.RequestOp_RequestTxn:
			mustBeChecked(t, v.RequestTxn, maxOps-longest)
			continue
		default:
			t.Fatalf("operation %T passed", v)
		}
		if len(key) == 0 {
			t.Fatal("operation without key")
		}
	}
}

// mustNotPutTwice fails when one way through the Txn puts a key twice.
func mustNotPutTwice(t *testing.T, r *pb.TxnRequest) {
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		seen := make(map[string]bool)
		for _, op := range branch {
			for k := range putsOf(op) {
				if seen[k] {
					t.Fatalf("key %q is put twice", k)
				}
				seen[k] = true
			}
			if n := op.GetRequestTxn(); n != nil {
				mustNotPutTwice(t, n)
			}
		}
	}
}

// putsOf is every key that an operation may put, whichever branches are taken.
func putsOf(op *pb.RequestOp) map[string]bool {
	puts := make(map[string]bool)
	if p := op.GetRequestPut(); p != nil {
		puts[string(p.Key)] = true
	}
	if n := op.GetRequestTxn(); n != nil {
		for _, inner := range append(append(ops(), n.Success...), n.Failure...) {
			for k := range putsOf(inner) {
				puts[k] = true
			}
		}
	}
	return puts
}

// maxMutations is the most mutations that any way through the Txn makes.
func maxMutations(t *testing.T, r *pb.TxnRequest) int {
	count := func(branch []*pb.RequestOp) (n int) {
		for _, op := range branch {
			switch v := op.Request.(type) {
			case *pb.RequestOp_RequestPut:
				n++
			case *pb.RequestOp_RequestDeleteRange:
				if len(v.RequestDeleteRange.RangeEnd) > 0 {
					t.Fatal("range delete in the netsy profile")
				}
				n++
			case *pb.RequestOp_RequestTxn:
				n += maxMutations(t, v.RequestTxn)
			}
		}
		return n
	}
	return max(count(r.Success), count(r.Failure))
}
