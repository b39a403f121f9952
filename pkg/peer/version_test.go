package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"path"
	"reflect"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// newerMinor is the minor version of a node of the future.
const newerMinor = ProtocolMinor + 1

// newer adds a field that nobody knows to a message, and to all in it; to a batch of
// messages of elections one more, of a kind that nobody knows.
func newer(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				newer(v.List().Get(i).Message())
			}
		default:
			newer(m.Mutable(f).Message())
		}
		return true
	})
	m.SetUnknown(protowire.AppendString(protowire.AppendTag(m.GetUnknown(), 9999, protowire.BytesType), "of a newer version"))
	if batch, ok := m.Interface().(*peerpb.ControlBatch); ok {
		unknown := &peerpb.ElectMessage{}
		newer(unknown.ProtoReflect())
		batch.Messages = append([]*peerpb.ElectMessage{unknown}, batch.Messages...)
	}
}

// versionProxy passes calls on to a node, as if those who call, or the node that
// answers, were of a newer minor version.
type versionProxy struct {
	target           *grpc.ClientConn
	requests, answer bool
	changed          atomic.Int64 // messages
}

// startProxy puts a proxy in front of a node, and gives its address.
func startProxy(t *testing.T, n *node, p *versionProxy) string {
	t.Helper()
	var err error
	p.target, err = grpc.NewClient("passthrough:///"+n.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.UnknownServiceHandler(p.pass))
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := errors.Join(<-served, p.target.Close()); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// pass passes one call on.
func (p *versionProxy) pass(_ any, from grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(from)
	kinds := peerpb.File_peer_peerpb_peer_proto.Services().ByName("Peer").Methods().ByName(protoreflect.Name(path.Base(method)))
	md, _ := metadata.FromIncomingContext(from.Context())
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(from.Context(), p.hello(md, p.requests)))
	defer cancel()
	to, err := p.target.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodecV2(bytesCodec{}))
	if err != nil {
		return err
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if err := p.copy(from, to, kinds.Input(), p.requests); errors.Is(err, io.EOF) {
			_ = to.CloseSend()
		}
	}()
	md, err = to.Header()
	if err == nil {
		_ = from.SendHeader(p.hello(md, p.answer))
		err = p.copy(to, from, kinds.Output(), p.answer)
	}
	from.SetTrailer(to.Trailer())
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err // ends the other goroutine, too: the stream's context ends
}

// copy passes messages of a kind on until there are no more.
func (p *versionProxy) copy(from, to interface {
	SendMsg(any) error
	RecvMsg(any) error
}, kind protoreflect.MessageDescriptor, change bool) error {
	for {
		var b []byte
		if err := from.RecvMsg(&b); err != nil {
			return err
		}
		if change {
			b = p.change(kind, b)
		}
		if err := to.SendMsg(&b); err != nil {
			return err
		}
	}
}

func (p *versionProxy) change(kind protoreflect.MessageDescriptor, b []byte) []byte {
	t, err := protoregistry.GlobalTypes.FindMessageByName(kind.FullName())
	if err != nil {
		panic(err)
	}
	m := t.New()
	if err := proto.Unmarshal(b, m.Interface()); err != nil {
		panic(err)
	}
	newer(m)
	p.changed.Add(1)
	return mustEncode(m.Interface())
}

// hello is metadata with a newer Hello.
func (p *versionProxy) hello(md metadata.MD, change bool) metadata.MD {
	out := metadata.MD{}
	for _, said := range md.Get(helloKey) {
		h := &peerpb.Hello{}
		if err := proto.Unmarshal([]byte(said), h); err != nil {
			panic(err)
		}
		if change {
			h.Minor = newerMinor
			newer(h.ProtoReflect())
		}
		out.Append(helloKey, string(mustEncode(h)))
	}
	return out
}

// bytesCodec passes messages on as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// rolling is two nodes in the middle of an upgrade: what comes from the second one is of
// a newer minor version.
func rolling(t *testing.T) (old, new *node) {
	t.Helper()
	old, new = start(t, config(1, "a"), newHandler()), start(t, config(2, "b"), newHandler())
	ahead, behind := &versionProxy{answer: true}, &versionProxy{requests: true}
	old.SetPeers([]Peer{{2, "b", startProxy(t, new, ahead)}})
	new.SetPeers([]Peer{{1, "a", startProxy(t, old, behind)}})
	t.Cleanup(func() {
		if !t.Failed() && (ahead.changed.Load() == 0 || behind.changed.Load() == 0) {
			t.Errorf("%d and %d messages were of a newer version", ahead.changed.Load(), behind.changed.Load())
		}
	})
	return old, new
}

// TestNodesOfTwoMinorVersionsElect: each hears what the other one says, in order; what
// one does not know is left out.
func TestNodesOfTwoMinorVersionsElect(t *testing.T) {
	old, new := rolling(t)
	for i := range 20 {
		want := elect.Appoint{Cluster: elect.Cluster{Epoch: sqllog.Epoch(i + 1), Rule: elect.Majority, RuleBefore: 1, Members: []elect.NodeID{1, 2}}}
		old.Send(2, want)
		new.Send(1, want)
		for _, at := range []*node{old, new} {
			if got := next(t, "a message", at.h.messages); !reflect.DeepEqual(got.message, want) {
				t.Fatalf("%s has heard %v, want %v", at.cfg.Name, got, want)
			}
		}
	}
	if _, err := old.Forward(within(t), 2, grant(1)); err != nil { // answers are of a newer version, too
		t.Error(err)
	}
}

// TestNodesOfTwoMinorVersionsFollow: whichever is Primary, the other one gets its rows,
// and its receipts arrive.
func TestNodesOfTwoMinorVersionsFollow(t *testing.T) {
	old, new := rolling(t)
	for _, c := range []struct {
		primary, replica *node
	}{{old, new}, {new, old}} {
		frames := []*Frame{
			{Prev: testOpened.TruncateTo, Rows: puts(9, 3, 3, []byte("x")), Committed: 7, Uploaded: 6},
			{Prev: elect.Position{ID: 11, Epoch: 3}, Rows: puts(12, 2, 5, []byte("y")), Committed: 11, Uploaded: 9},
		}
		c.primary.h.follow = func(_ context.Context, s FollowStream) error {
			if s.Open() != testOpen {
				t.Errorf("%s is opened by %v", c.primary.cfg.Name, s.Open())
			}
			if err := s.Opened(testOpened); err != nil {
				return err
			}
			for _, f := range frames {
				if err := s.Send(f); err != nil {
					return err
				}
			}
			for id := sqllog.ID(0); id < 13; {
				var err error
				if id, err = s.Receipt(); err != nil {
					return err
				}
			}
			return status.Error(codes.Aborted, "all is received")
		}
		f, err := c.replica.Follow(within(t), c.primary.cfg.Self, testOpen)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range frames {
			got, err := f.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Rows, want.Rows) || got.Committed != want.Committed || got.Uploaded != want.Uploaded {
				t.Fatalf("%s receives %v, want %v", c.replica.cfg.Name, got, want)
			}
			f.Receipt(got.Last().ID)
		}
		if _, err := f.Recv(); status.Convert(err).Message() != "all is received" {
			t.Error(err)
		}
		f.Close()
	}
}

// TestNodesOfTwoMinorVersionsCall: requests of clients, reads, states and hand-overs,
// with errors as they are.
func TestNodesOfTwoMinorVersionsCall(t *testing.T) {
	old, new := rolling(t)
	put := &peerpb.ForwardRequest{Request: &peerpb.ForwardRequest_Txn{Txn: &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte("k")}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 4}}}},
	}}}
	for _, c := range []struct {
		at, from *node
		seen     string // of the one that is asked
	}{{old, new, "a"}, {new, old, "b"}} {
		c.at.h.forward = func(_ context.Context, r *peerpb.ForwardRequest) *peerpb.ForwardResponse {
			op := r.GetTxn().GetSuccess()
			if len(r.GetTxn().GetCompare()) != 1 || len(op) != 1 || string(op[0].GetRequestPut().GetValue()) != "v" || op[0].GetRequestPut().GetLease() != 4 {
				t.Errorf("%s is asked for %v", c.at.cfg.Name, r)
			}
			return &peerpb.ForwardResponse{Response: &peerpb.ForwardResponse_Error{Error: &peerpb.Status{Code: uint32(codes.Unavailable), Message: "why not"}}, Applied: 3}
		}
		r, err := c.from.Forward(within(t), c.at.cfg.Self, put)
		if err != nil || r.GetError().GetMessage() != "why not" || r.GetApplied() != 3 {
			t.Errorf("%v, %v", r, err)
		}
		if id, err := c.from.Committed(within(t), c.at.cfg.Self, 5); err != nil || id != 50 {
			t.Errorf("%d, %v", id, err)
		}
		c.at.h.state = &peerpb.NodeState{Name: c.seen, Replicas: []*peerpb.ReplicaState{{Name: "r", Durable: 8}}}
		address := c.from.address(t, c.at.cfg.Self)
		if s, err := c.from.State(within(t), address); err != nil || s.GetName() != c.seen || s.GetReplicas()[0].GetDurable() != 8 {
			t.Errorf("%v, %v", s, err)
		}
		c.at.h.handOver = func(_ context.Context, to elect.NodeID) (elect.NodeID, error) { return to + 1, nil }
		if n, err := c.from.HandOver(within(t), address, 6); err != nil || n != 7 {
			t.Errorf("%s, %v", n, err)
		}
	}
}

// address is where a node reaches another one.
func (n *node) address(t *testing.T, of elect.NodeID) string {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[of].peer.Address
}
