package client

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

// counted connects to the first endpoint that is reached, and shows how much is read and written through the connection: keys,
// or bytes of a snapshot. The caller closes it.
func (s *session) counted(ctx context.Context, what string) (*grpc.ClientConn, error) {
	if _, err := s.connect(ctx); err != nil {
		return nil, describe(err)
	}
	c := &counter{line: s.line, what: what}
	return s.all[s.at].dial(s.tls, grpc.WithChainUnaryInterceptor(c.unary), grpc.WithChainStreamInterceptor(c.stream))
}

// counter counts what one goroutine reads and writes.
type counter struct {
	line          *terminal.Line
	what          string
	keys, total   int64
	bytes, length int64
}

func (c *counter) unary(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, call grpc.UnaryInvoker, o ...grpc.CallOption) error {
	err := call(ctx, method, request, answer, conn, o...)
	if err != nil {
		return err
	}
	switch r := answer.(type) {
	case *pb.RangeResponse:
		c.keys += int64(len(r.GetKvs()))
		c.total = max(c.total, r.GetCount())
	case *pb.TxnResponse:
		c.keys += int64(len(r.GetResponses()))
	}
	c.show(terminal.Bar(c.keys, c.total), terminal.Digits(c.keys)+" keys")
	return nil
}

func (c *counter) show(bar, text string) {
	if bar != "" {
		bar = " " + bar
	}
	c.line.Show(c.what + bar + " " + text)
}

func (c *counter) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, conn, method, o...)
	if err != nil {
		return nil, err
	}
	return &countedStream{stream, c}, nil
}

// countedStream counts the bytes of a snapshot.
type countedStream struct {
	grpc.ClientStream
	c *counter
}

// RecvMsg receives a message.
func (s *countedStream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	if r, ok := m.(*pb.SnapshotResponse); ok {
		s.c.bytes += int64(len(r.GetBlob()))
		s.c.length = max(s.c.length, s.c.bytes+int64(r.GetRemainingBytes()))
		s.c.show(terminal.Bar(s.c.bytes, s.c.length), terminal.Megabytes(s.c.bytes))
	}
	return nil
}
