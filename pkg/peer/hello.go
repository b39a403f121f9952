package peer

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

// The version of the protocol. Nodes of different major versions refuse each other;
// peer.proto says what may change without one.
const (
	ProtocolMajor = 1
	ProtocolMinor = 0
)

// helloKey is the metadata entry of a Hello, in calls and in the headers of answers.
const helloKey = "kinsy-hello-bin"

// maxHello bounds an encoded Hello, in bytes.
const maxHello = 1024

// hello is what this node says; to is 0 where it does not matter who answers.
func (t *Transport) hello(to elect.NodeID) string {
	h := &peerpb.Hello{
		Major: ProtocolMajor, Minor: ProtocolMinor,
		ClusterId: t.cfg.Cluster, NodeId: uint64(t.cfg.Self), Name: t.cfg.Name, To: uint64(to),
	}
	b, err := proto.Marshal(h)
	if err != nil {
		panic("peer: a Hello cannot be encoded: " + err.Error()) // the name was validated
	}
	return string(b)
}

// withHello returns a context whose calls say hello.
func (t *Transport) withHello(ctx context.Context, to elect.NodeID) context.Context {
	return metadata.AppendToOutgoingContext(ctx, helloKey, t.hello(to))
}

// readHello decodes the Hello in metadata and checks what both sides check.
func (t *Transport) readHello(md metadata.MD) (*peerpb.Hello, error) {
	values := md.Get(helloKey)
	if len(values) != 1 || len(values[0]) > maxHello {
		return nil, errors.New("the other side is no kinsy node: it does not say hello")
	}
	h := &peerpb.Hello{}
	if err := proto.Unmarshal([]byte(values[0]), h); err != nil {
		return nil, errors.New("the other side is no kinsy node: its hello cannot be decoded")
	}
	switch {
	case !validName.MatchString(h.Name):
		return nil, fmt.Errorf("the other side's name %.100q is invalid", h.Name)
	case h.Major != ProtocolMajor:
		return nil, fmt.Errorf("node %q speaks version %d.%d of the peer protocol, node %q version %d.%d",
			h.Name, h.Major, h.Minor, t.cfg.Name, ProtocolMajor, ProtocolMinor)
	case h.ClusterId != t.cfg.Cluster:
		return nil, fmt.Errorf("node %q is of cluster %016x, node %q of cluster %016x", h.Name, h.ClusterId, t.cfg.Name, t.cfg.Cluster)
	}
	return h, nil
}

// forClients are the calls of those who are no node.
var forClients = map[string]bool{
	peerpb.Peer_State_FullMethodName: true, peerpb.Peer_Ping_FullMethodName: true, peerpb.Peer_HandOver_FullMethodName: true,
}

// checkCaller checks the Hello of a call that this node serves.
func (t *Transport) checkCaller(ctx context.Context, method string) (*peerpb.Hello, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	h, err := t.readHello(md)
	if err != nil {
		return nil, err
	}
	if err := t.checkCertificate(ctx, h); err != nil {
		return nil, err
	}
	self, from := t.cfg.Self, elect.NodeID(h.NodeId)
	switch {
	case h.To != 0 && elect.NodeID(h.To) != self:
		return nil, fmt.Errorf("this is node %q, disk %s, not disk %s", t.cfg.Name, self, elect.NodeID(h.To))
	case from == 0 && !forClients[method]:
		return nil, fmt.Errorf("%q is no node, it may ask for the state and for another primary only", h.Name)
	case from == 0:
		return h, nil
	case from == self:
		return nil, fmt.Errorf("node %q has the disk of node %q, %s: one is a copy of the other", h.Name, t.cfg.Name, self)
	case h.Name == t.cfg.Name:
		return nil, fmt.Errorf("two nodes are named %q: disk %s and disk %s", h.Name, self, from)
	}
	if known, ok := t.knownName(from); ok && known != h.Name {
		return nil, fmt.Errorf("disk %s is node %q's, not node %q's", from, known, h.Name)
	}
	return h, nil
}

// checkCertificate checks that the caller's certificate is that of the node it says
// it is.
func (t *Transport) checkCertificate(ctx context.Context, h *peerpb.Hello) error {
	if t.cfg.Insecure {
		return nil
	}
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return errors.New("no certificate")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return errors.New("no certificate")
	}
	return checkSubject(info.State.PeerCertificates[0], h.Name, t.cfg.Cluster)
}

// callerKey is the context key of the caller's Hello.
type callerKey struct{}

// caller is the node that a call is from.
func caller(ctx context.Context) (elect.NodeID, string) {
	h := ctx.Value(callerKey{}).(*peerpb.Hello) // set by both interceptors
	return elect.NodeID(h.NodeId), h.Name
}

// greet checks the caller's Hello and returns a context that knows it, and this
// node's own Hello for the header of the answer.
func (t *Transport) greet(ctx context.Context, method string) (context.Context, metadata.MD, error) {
	h, err := t.checkCaller(ctx, method)
	if err != nil {
		t.refusals.log(t.cfg.Logger, err)
		return nil, nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return context.WithValue(ctx, callerKey{}, h), metadata.Pairs(helloKey, t.hello(elect.NodeID(h.NodeId))), nil
}

func (t *Transport) unaryInterceptor(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = t.recovered(info.FullMethod, p)
		}
	}()
	ctx, md, err := t.greet(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if err := grpc.SetHeader(ctx, md); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (t *Transport) streamInterceptor(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = t.recovered(info.FullMethod, p)
		}
	}()
	ctx, md, err := t.greet(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx, cancel := t.serving(ctx)
	defer cancel()
	if err := stream.SendHeader(md); err != nil {
		return err
	}
	return next(srv, &greetedStream{ServerStream: stream, ctx: ctx})
}

// greetedStream is a stream whose context knows the caller and ends with the
// Transport.
type greetedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context is the context of the stream.
func (s *greetedStream) Context() context.Context { return s.ctx }
