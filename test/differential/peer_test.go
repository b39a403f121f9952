package differential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// callTimeout bounds one request; a server that needs longer has hung.
const callTimeout = 20 * time.Second

// peer is one server together with the raw gRPC clients that drive it. Used by one goroutine at a time.
type peer struct {
	*server
	conn      *grpc.ClientConn
	kv        pb.KVClient
	lease     pb.LeaseClient
	maint     pb.MaintenanceClient
	cluster   pb.ClusterClient
	watch     pb.WatchClient
	keepAlive pb.Lease_LeaseKeepAliveClient
	streams   []*watchStream
	endCalls  context.CancelFunc // ends the streams
}

// connect opens a connection and waits until the server answers a read.
func (p *peer) connect(streams int) error {
	conn, err := grpc.NewClient("passthrough:///"+p.addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", p.name, err)
	}
	p.conn, p.kv, p.lease = conn, pb.NewKVClient(conn), pb.NewLeaseClient(conn)
	p.maint, p.cluster, p.watch = pb.NewMaintenanceClient(conn), pb.NewClusterClient(conn), pb.NewWatchClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if _, err := p.kv.Range(ctx, &pb.RangeRequest{Key: []byte("ready")}, grpc.WaitForReady(true)); err != nil {
		return fmt.Errorf("%s does not answer: %w\n%s", p.name, err, p.logTail())
	}
	return p.openStreams(streams)
}

// openStreams opens the keepalive stream and n empty watch streams, in place of those that were open.
func (p *peer) openStreams(n int) error {
	p.closeStreams()
	ctx, cancel := context.WithCancel(context.Background())
	p.endCalls = cancel
	var err error
	if p.keepAlive, err = p.lease.LeaseKeepAlive(ctx); err != nil {
		return fmt.Errorf("open keepalive stream to %s: %w", p.name, err)
	}
	for i := range n {
		w, err := openWatch(ctx, p.watch, fmt.Sprintf("%s stream %d", p.name, i), i%2 == 0)
		if err != nil {
			return err
		}
		p.streams = append(p.streams, w)
	}
	return nil
}

func (p *peer) closeStreams() {
	if p.endCalls == nil {
		return
	}
	p.endCalls()
	for _, w := range p.streams {
		<-w.closed
	}
	p.streams, p.keepAlive, p.endCalls = nil, nil, nil
}

func (p *peer) disconnect() {
	p.closeStreams()
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// unary sends one request and returns the response, for every kind of request that has just one.
func (p *peer) unary(ctx context.Context, req proto.Message) (proto.Message, error) {
	switch r := req.(type) {
	case *pb.RangeRequest:
		return reply(p.kv.Range(ctx, r))
	case *pb.PutRequest:
		return reply(p.kv.Put(ctx, r))
	case *pb.DeleteRangeRequest:
		return reply(p.kv.DeleteRange(ctx, r))
	case *pb.TxnRequest:
		return reply(p.kv.Txn(ctx, r))
	case *pb.CompactionRequest:
		return reply(p.kv.Compact(ctx, r))
	case *pb.HashKVRequest:
		return reply(p.maint.HashKV(ctx, r))
	case *pb.AlarmRequest:
		return reply(p.maint.Alarm(ctx, r))
	case *pb.DefragmentRequest:
		return reply(p.maint.Defragment(ctx, r))
	case *pb.MoveLeaderRequest:
		return reply(p.maint.MoveLeader(ctx, r))
	case *pb.LeaseGrantRequest:
		return reply(p.lease.LeaseGrant(ctx, r))
	case *pb.LeaseRevokeRequest:
		return reply(p.lease.LeaseRevoke(ctx, r))
	case *pb.LeaseTimeToLiveRequest:
		return reply(p.lease.LeaseTimeToLive(ctx, r))
	case *pb.LeaseLeasesRequest:
		return reply(p.lease.LeaseLeases(ctx, r))
	case *pb.LeaseKeepAliveRequest:
		return p.renew(r)
	default:
		return nil, fmt.Errorf("no client for %T", req)
	}
}

// reply drops a nil response of a concrete type.
func reply[M proto.Message](m M, err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

// renew sends one keepalive on the open stream.
func (p *peer) renew(r *pb.LeaseKeepAliveRequest) (proto.Message, error) {
	if err := p.keepAlive.Send(r); err != nil {
		return nil, fmt.Errorf("send keepalive: %w", err)
	}
	return reply(p.keepAlive.Recv())
}

// rangeStream reads a whole RangeStream and joins its chunks. Where header, count and more are is checked.
func (p *peer) rangeStream(ctx context.Context, r *pb.RangeRequest) (proto.Message, error) {
	stream, err := p.kv.RangeStream(ctx, r)
	if err != nil {
		return nil, err
	}
	whole, ended := &pb.RangeResponse{}, false
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		part := chunk.GetRangeResponse()
		if ended {
			return nil, errors.New("range stream: a chunk follows the one with the header")
		}
		if ended = part.GetHeader() != nil; !ended && (part.GetMore() || part.GetCount() != 0) {
			return nil, errors.New("range stream: more or count set before the last chunk")
		}
		whole.Header, whole.More, whole.Count = part.GetHeader(), part.GetMore(), part.GetCount()
		whole.Kvs = append(whole.Kvs, part.GetKvs()...)
	}
	if !ended {
		return nil, errors.New("range stream: the last chunk has no header")
	}
	return whole, nil
}
