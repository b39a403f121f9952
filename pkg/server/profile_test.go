package server

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

func TestParseProfile(t *testing.T) {
	for _, p := range []Profile{ProfileNetsy, ProfileEtcd} {
		if got, err := ParseProfile(p.String()); err != nil || got != p {
			t.Errorf("%s: got %v, %v", p, got, err)
		}
	}
	for _, text := range []string{"", "Etcd", "all"} {
		if _, err := ParseProfile(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

// The RPCs that are answered; every other RPC of every service must be refused.
const (
	netsyRPCs = "KV/Range KV/RangeStream KV/Txn Watch/Watch Lease/LeaseGrant " +
		"Cluster/MemberList Maintenance/Alarm Maintenance/Status"
	etcdRPCs = netsyRPCs + " KV/Put KV/DeleteRange KV/Compact " +
		"Lease/LeaseRevoke Lease/LeaseKeepAlive Lease/LeaseTimeToLive Lease/LeaseLeases " +
		"Maintenance/Defragment Maintenance/Hash Maintenance/HashKV Maintenance/MoveLeader " +
		"Maintenance/Snapshot"
)

// TestProfilesAnswer calls every RPC of every service that the server has, with
// an empty request, and looks whether it is answered or refused, and how.
func TestProfilesAnswer(t *testing.T) {
	for p, list := range map[Profile]string{ProfileNetsy: netsyRPCs, ProfileEtcd: etcdRPCs} {
		t.Run(p.String(), func(t *testing.T) {
			h := start(t, p, withSnapshot(t, newFakeSnapshot(t, 0)))
			answered, total := 0, 0
			for service := range h.grpc.GetServiceInfo() {
				if !strings.HasPrefix(service, etcdPackage) {
					continue
				}
				d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
				if err != nil {
					t.Fatal(err)
				}
				methods := d.(protoreflect.ServiceDescriptor).Methods()
				for i := range methods.Len() {
					total++
					if checkRPC(t, h, methods.Get(i), p, strings.Fields(list)) {
						answered++
					}
				}
			}
			if answered != len(strings.Fields(list)) {
				t.Errorf("%d RPCs answered, want %d", answered, len(strings.Fields(list)))
			}
			if total != 42 {
				t.Errorf("etcd 3.7 has 42 RPCs, %d found: is a new one in the right profile?", total)
			}
		})
	}
}

// checkRPC returns whether the RPC was answered, after checking that it should be.
func checkRPC(t *testing.T, h *harness, m protoreflect.MethodDescriptor, p Profile, allowed []string) bool {
	service, method := string(m.Parent().Name()), string(m.Name())
	name := service + "/" + method
	err := callEmpty(t, h.conn, m)
	want := false
	for _, a := range allowed {
		want = want || a == name
	}
	if want {
		if status.Code(err) == codes.Unimplemented {
			t.Errorf("%s is refused: %v", name, err)
		}
		return true
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("%s: got %v, want Unimplemented", name, err)
		return false
	}
	text := status.Convert(err).Message()
	inEtcd := strings.Contains(" "+etcdRPCs+" ", " "+name+" ")
	if !strings.Contains(text, method) || strings.Contains(text, "--api=etcd") != (inEtcd && p == ProfileNetsy) {
		t.Errorf("%s is refused with %q", name, text)
	}
	return false
}

// callEmpty sends one empty request and returns the error of the first answer.
func callEmpty(t *testing.T, conn *grpc.ClientConn, m protoreflect.MethodDescriptor) error {
	full := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return conn.Invoke(testContext(t), full, in, out)
	}
	desc := &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}
	stream, err := conn.NewStream(testContext(t), desc, full)
	if err != nil {
		return err
	}
	var first any = in
	if m.Name() == "Watch" {
		first = createRequest(&pb.WatchCreateRequest{})
	}
	// A refused stream may end before the request is sent; Recv knows why.
	_ = stream.SendMsg(first)
	return stream.RecvMsg(out)
}

func TestNetsyTxn(t *testing.T) {
	many, ranged := errTxnManyMutations, errTxnDeletesRange
	reads := ops(getOp("a"), getOp("b"), getOp("c"))
	for name, c := range map[string]struct {
		r    *pb.TxnRequest
		want error
	}{
		"empty":              {&pb.TxnRequest{}, nil},
		"put":                {&pb.TxnRequest{Success: append(reads, putOp("a")), Failure: reads}, nil},
		"delete":             {&pb.TxnRequest{Success: ops(delOp("a", "")), Failure: ops(getOp("a"))}, nil},
		"same key both":      {&pb.TxnRequest{Success: ops(putOp("a")), Failure: ops(putOp("a"))}, nil},
		"other key each":     {&pb.TxnRequest{Success: ops(putOp("a")), Failure: ops(delOp("b", ""))}, nil},
		"two puts":           {&pb.TxnRequest{Success: ops(putOp("a"), putOp("b"))}, many},
		"two in failure":     {&pb.TxnRequest{Failure: ops(putOp("a"), delOp("b", ""))}, many},
		"range":              {&pb.TxnRequest{Success: ops(delOp("a", "b"))}, ranged},
		"from key":           {&pb.TxnRequest{Failure: ops(delOp("a", "\x00"))}, ranged},
		"nested":             {&pb.TxnRequest{Success: ops(txnOp(ops(putOp("a")), ops(putOp("b"))))}, nil},
		"nested two":         {&pb.TxnRequest{Success: ops(txnOp(ops(putOp("a"), putOp("b")), nil))}, many},
		"nested and outer":   {&pb.TxnRequest{Success: ops(putOp("a"), txnOp(nil, ops(putOp("b"))))}, many},
		"nested range":       {&pb.TxnRequest{Failure: ops(txnOp(nil, ops(delOp("a", "c"))))}, ranged},
		"sibling mutations":  {&pb.TxnRequest{Success: ops(txnOp(ops(putOp("a")), nil), txnOp(ops(putOp("b")), nil))}, many},
		"compares are free":  {&pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("x")}, {Key: []byte("y")}}}, nil},
		"nested reads, put":  {&pb.TxnRequest{Success: ops(txnOp(reads, reads), putOp("a"))}, nil},
		"deep nested twice":  {&pb.TxnRequest{Success: ops(txnOp(ops(txnOp(nil, ops(putOp("a")))), nil), putOp("b"))}, many},
		"deletes of one key": {&pb.TxnRequest{Success: ops(delOp("a", ""), delOp("a", ""))}, many},
	} {
		if err := ProfileNetsy.checkTxn(c.r); err != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if err := ProfileEtcd.checkTxn(c.r); err != nil {
			t.Errorf("%s: the etcd profile refuses it: %v", name, err)
		}
	}
	for _, err := range []error{many, ranged} {
		if st := status.Convert(err); st.Code() != codes.InvalidArgument || !strings.HasPrefix(st.Message(), "etcdserver: ") {
			t.Errorf("refusal %v", err)
		}
	}
}

// Two keys in one Txn are refused on the wire, and nothing reaches the engine.
func TestNetsyTxnOnTheWire(t *testing.T) {
	h := start(t, ProfileNetsy)
	_, err := h.kv.Txn(testContext(t), &pb.TxnRequest{Success: ops(putOp("a"), putOp("b"))})
	wantError(t, err, errTxnManyMutations)
	if h.engine.lastTxn() != nil {
		t.Fatal("the engine saw the refused Txn")
	}
	if _, err := h.kv.Txn(testContext(t), &pb.TxnRequest{Success: ops(putOp("a"))}); err != nil {
		t.Fatal(err)
	}
}
