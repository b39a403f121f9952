package server

import (
	"bytes"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

func TestCheckRange(t *testing.T) {
	key := []byte("k")
	for name, c := range map[string]struct {
		r    *pb.RangeRequest
		want error
	}{
		"good":            {&pb.RangeRequest{Key: key}, nil},
		"nil":             {nil, rpctypes.ErrGRPCEmptyKey},
		"no key":          {&pb.RangeRequest{}, rpctypes.ErrGRPCEmptyKey},
		"sort order":      {&pb.RangeRequest{Key: key, SortOrder: 3}, rpctypes.ErrGRPCInvalidSortOption},
		"sort order low":  {&pb.RangeRequest{Key: key, SortOrder: -1}, rpctypes.ErrGRPCInvalidSortOption},
		"sort target":     {&pb.RangeRequest{Key: key, SortTarget: 5}, rpctypes.ErrGRPCInvalidSortOption},
		"sort target low": {&pb.RangeRequest{Key: key, SortTarget: -1}, rpctypes.ErrGRPCInvalidSortOption},
		"value descend": {&pb.RangeRequest{
			Key: key, SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_DESCEND,
		}, nil},
	} {
		if err := checkRange(c.r); err != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestCheckRangeStream(t *testing.T) {
	key := []byte("k")
	for name, c := range map[string]struct {
		r    *pb.RangeRequest
		want error
	}{
		"good":        {&pb.RangeRequest{Key: key}, nil},
		"key ascend":  {&pb.RangeRequest{Key: key, SortOrder: pb.RangeRequest_ASCEND}, nil},
		"target only": {&pb.RangeRequest{Key: key, SortTarget: pb.RangeRequest_MOD}, nil},
		"key descend": {&pb.RangeRequest{Key: key, SortOrder: pb.RangeRequest_DESCEND}, errStreamSort},
		"mod ascend": {&pb.RangeRequest{
			Key: key, SortTarget: pb.RangeRequest_MOD, SortOrder: pb.RangeRequest_ASCEND,
		}, errStreamSort},
		"min mod":    {&pb.RangeRequest{Key: key, MinModRevision: 1}, errStreamFilter},
		"max mod":    {&pb.RangeRequest{Key: key, MaxModRevision: 1}, errStreamFilter},
		"min create": {&pb.RangeRequest{Key: key, MinCreateRevision: 1}, errStreamFilter},
		"max create": {&pb.RangeRequest{Key: key, MaxCreateRevision: 1}, errStreamFilter},
		"no key":     {&pb.RangeRequest{}, rpctypes.ErrGRPCEmptyKey},
	} {
		if err := checkRangeStream(c.r); err != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestCheckPut(t *testing.T) {
	key, value := []byte("k"), []byte("v")
	for name, c := range map[string]struct {
		r    *pb.PutRequest
		want error
	}{
		"good":         {&pb.PutRequest{Key: key, Value: value, Lease: 1}, nil},
		"nil":          {nil, rpctypes.ErrGRPCEmptyKey},
		"no key":       {&pb.PutRequest{Value: value}, rpctypes.ErrGRPCEmptyKey},
		"ignore value": {&pb.PutRequest{Key: key, IgnoreValue: true}, nil},
		"both values":  {&pb.PutRequest{Key: key, Value: value, IgnoreValue: true}, rpctypes.ErrGRPCValueProvided},
		"ignore lease": {&pb.PutRequest{Key: key, Value: value, IgnoreLease: true}, nil},
		"both leases":  {&pb.PutRequest{Key: key, Lease: 1, IgnoreLease: true}, rpctypes.ErrGRPCLeaseProvided},
	} {
		if err := checkPut(c.r); err != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestCheckTxnFields(t *testing.T) {
	empty := &pb.RequestOp{}
	for name, c := range map[string]struct {
		r    *pb.TxnRequest
		want error
	}{
		"empty":       {&pb.TxnRequest{}, nil},
		"nil compare": {&pb.TxnRequest{Compare: []*pb.Compare{nil}}, rpctypes.ErrGRPCEmptyKey},
		"compare key": {&pb.TxnRequest{Compare: []*pb.Compare{{}}}, rpctypes.ErrGRPCEmptyKey},
		"nil op":      {&pb.TxnRequest{Success: ops(nil)}, rpctypes.ErrGRPCKeyNotFound},
		"no oneof":    {&pb.TxnRequest{Failure: ops(empty)}, rpctypes.ErrGRPCKeyNotFound},
		"nil range": {&pb.TxnRequest{Success: ops(&pb.RequestOp{Request: &pb.RequestOp_RequestRange{}})},
			rpctypes.ErrGRPCEmptyKey},
		"nil put": {&pb.TxnRequest{Success: ops(&pb.RequestOp{Request: &pb.RequestOp_RequestPut{}})},
			rpctypes.ErrGRPCEmptyKey},
		"nil delete": {&pb.TxnRequest{Success: ops(&pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{}})},
			rpctypes.ErrGRPCEmptyKey},
		"nil txn": {&pb.TxnRequest{Success: ops(&pb.RequestOp{Request: &pb.RequestOp_RequestTxn{}})},
			rpctypes.ErrGRPCKeyNotFound},
		"empty key in failure": {&pb.TxnRequest{Failure: ops(putOp(""))}, rpctypes.ErrGRPCEmptyKey},
		"empty key nested":     {&pb.TxnRequest{Failure: ops(txnOp(ops(delOp("", "")), nil))}, rpctypes.ErrGRPCEmptyKey},
	} {
		if err := checkTxn(c.r, 128); err != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func manyOps(n int) (list []*pb.RequestOp) {
	for i := range n {
		list = append(list, putOp(fmt.Sprintf("k%d", i)))
	}
	return list
}

// nested is a Txn in a Txn, depth times, with width operations at each level.
func nested(depth, width int) *pb.TxnRequest {
	r := &pb.TxnRequest{Success: manyOps(width)}
	for range depth {
		r = &pb.TxnRequest{Success: append(manyOps(width-1),
			&pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}})}
	}
	return r
}

func TestCheckTxnLimits(t *testing.T) {
	var compares []*pb.Compare
	for range 129 {
		compares = append(compares, &pb.Compare{Key: []byte("k")})
	}
	for name, c := range map[string]struct {
		r    *pb.TxnRequest
		want error
	}{
		"128 each": {&pb.TxnRequest{
			Compare: compares[:128], Success: manyOps(128), Failure: manyOps(128),
		}, nil},
		"129 compares": {&pb.TxnRequest{Compare: compares}, rpctypes.ErrGRPCTooManyOps},
		"129 success":  {&pb.TxnRequest{Success: manyOps(129)}, rpctypes.ErrGRPCTooManyOps},
		"129 failure":  {&pb.TxnRequest{Failure: manyOps(129)}, rpctypes.ErrGRPCTooManyOps},
		"nested 64":    {nested(1, 64), nil},
		"nested 65":    {nested(1, 65), rpctypes.ErrGRPCTooManyOps},
		"depth 127":    {nested(127, 1), nil},
		"depth 128":    {nested(128, 1), rpctypes.ErrGRPCTooManyOps},
		"compare takes": {&pb.TxnRequest{
			Compare: compares[:127], Success: ops(txnOp(manyOps(2), nil)),
		}, rpctypes.ErrGRPCTooManyOps},
	} {
		if err := checkTxn(c.r, 128); err != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestCheckOverlap(t *testing.T) {
	dup := rpctypes.ErrGRPCDuplicateKey
	for name, c := range map[string]struct {
		branch []*pb.RequestOp
		want   error
	}{
		"one put":               {ops(putOp("a"), getOp("a")), nil},
		"two keys":              {ops(putOp("a"), putOp("b")), nil},
		"put twice":             {ops(putOp("a"), putOp("a")), dup},
		"delete then put":       {ops(delOp("a", ""), putOp("a")), dup},
		"put then delete":       {ops(putOp("a"), delOp("a", "")), dup},
		"delete twice":          {ops(delOp("a", ""), delOp("a", "")), nil},
		"put in range":          {ops(putOp("b"), delOp("a", "c")), dup},
		"put at end":            {ops(putOp("c"), delOp("a", "c")), nil},
		"put before":            {ops(putOp("a"), delOp("a\x00", "c")), nil},
		"joined ranges":         {ops(delOp("c", "e"), delOp("a", "c"), putOp("d")), dup},
		"inner range":           {ops(delOp("a", "z"), delOp("b", "c"), putOp("y")), dup},
		"between ranges":        {ops(delOp("a", "b"), delOp("c", "d"), putOp("b")), nil},
		"inverted range":        {ops(delOp("z", "a"), putOp("m")), nil},
		"from key":              {ops(delOp("a", "\x00"), putOp("m")), nil},
		"nested put twice":      {ops(putOp("a"), txnOp(ops(putOp("a")), nil)), dup},
		"nested in failure":     {ops(putOp("a"), txnOp(nil, ops(putOp("a")))), dup},
		"both branches":         {ops(txnOp(ops(putOp("a")), ops(putOp("a")))), nil},
		"both and outer":        {ops(txnOp(ops(putOp("a")), ops(putOp("a"))), putOp("a")), dup},
		"siblings put twice":    {ops(txnOp(ops(putOp("a")), nil), txnOp(nil, ops(putOp("a")))), dup},
		"sibling delete, put":   {ops(txnOp(ops(delOp("a", "")), nil), txnOp(ops(putOp("a")), nil)), dup},
		"sibling put, delete":   {ops(txnOp(ops(putOp("a")), nil), txnOp(ops(delOp("a", "")), nil)), nil},
		"delete, nested put":    {ops(delOp("a", "b"), txnOp(nil, ops(putOp("a")))), dup},
		"nested delete, put":    {ops(putOp("a"), txnOp(ops(delOp("a", "b")), nil)), dup},
		"deep delete, put":      {ops(putOp("a"), txnOp(ops(txnOp(nil, ops(delOp("a", "b")))), nil)), dup},
		"then puts, else dels":  {ops(txnOp(ops(putOp("a")), ops(delOp("a", "")))), nil},
		"failure after sibling": {ops(txnOp(ops(putOp("b")), nil), txnOp(ops(putOp("a")), ops(putOp("b")))), dup},
	} {
		if err := checkOverlap(c.branch); err != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

// The bound must never be below the true size, else a large request passes.
func TestSizeBounds(t *testing.T) {
	long := bytes.Repeat([]byte{'x'}, 3000)
	put := &pb.PutRequest{Key: long, Value: long, Lease: -1, PrevKv: true, IgnoreValue: true, IgnoreLease: true}
	if b, n := putBound(put), proto.Size(put); b < n {
		t.Errorf("put: bound %d, size %d", b, n)
	}
	del := &pb.DeleteRangeRequest{Key: long, RangeEnd: long, PrevKv: true}
	if b, n := deleteBound(del), proto.Size(del); b < n {
		t.Errorf("delete: bound %d, size %d", b, n)
	}
	get := &pb.RangeRequest{
		Key: long, RangeEnd: long, Limit: -1, Revision: -1, SortOrder: 2, SortTarget: 4, Serializable: true,
		KeysOnly: true, CountOnly: true, MinModRevision: -1, MaxModRevision: -1,
		MinCreateRevision: -1, MaxCreateRevision: -1,
	}
	cmp := &pb.Compare{
		Key: long, RangeEnd: long, Result: -1, Target: -1, TargetUnion: &pb.Compare_Value{Value: long},
	}
	branch := ops(
		&pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}},
		&pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}},
		&pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: get}},
	)
	txn := &pb.TxnRequest{Compare: []*pb.Compare{cmp, cmp}, Success: branch, Failure: branch}
	txn = &pb.TxnRequest{Success: ops(&pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}})}
	if b, n := txnBound(txn), proto.Size(txn); b < n {
		t.Errorf("txn: bound %d, size %d", b, n)
	}
	if b := txnBound(&pb.TxnRequest{Success: ops(getOp("a")), Failure: ops(getOp(string(long)))}); b != 0 {
		t.Errorf("read-only txn: bound %d, want 0", b)
	}
}
