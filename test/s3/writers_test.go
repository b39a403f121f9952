package s3

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/test/harness/client"
)

// writers are many clients that write without a pause, each with one write in flight. They run on the machine that kinsy is
// measured on and must not take much of it: an etcd client for each takes as much as kinsy. So the clients of a connection
// share a goroutine that speaks gRPC by itself. Each answer that it reads leads to its client's next request; what was read
// together is answered together.
type writers struct {
	acked atomic.Int64 // writes
	stop  atomic.Bool
	done  sync.WaitGroup
	mu    sync.Mutex
	err   error
}

// startWriters lets clients create keys below a folder, in Txns as kube-apiserver sends them.
func startWriters(addr, folder string, conns, clients, size int) *writers {
	w := &writers{}
	value := []byte(strings.Repeat("v", size))
	for i := range conns {
		var group []*writer
		for j := i; j < clients; j += conns {
			group = append(group, &writer{name: fmt.Sprintf("%s/%03d", folder, j)})
		}
		w.done.Go(func() {
			if err := w.drive(addr, group, value); err != nil {
				w.mu.Lock()
				w.err = errors.Join(w.err, err)
				w.mu.Unlock()
			}
		})
	}
	return w
}

// end lets the clients finish their writes, and returns what went wrong.
func (w *writers) end() error {
	w.stop.Store(true)
	w.done.Wait()
	return w.err
}

// drive runs the clients of one connection.
func (w *writers) drive(addr string, group []*writer, value []byte) error {
	conn, err := net.DialTimeout("tcp", addr, client.WaitLimit)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := newWriterConn(conn, value)
	if err := c.open(addr); err != nil {
		return err
	}
	for _, one := range group {
		if err := c.send(one); err != nil {
			return err
		}
	}
	for len(c.flying) > 0 {
		one, err := c.next()
		if err != nil {
			return err
		}
		if one == nil {
			continue
		}
		w.acked.Add(1)
		if !w.stop.Load() {
			if err := c.send(one); err != nil {
				return err
			}
		}
	}
	return nil
}

// writer is one client.
type writer struct {
	name  string
	sent  int
	wrote bool // the answer to what it has sent last says so
}

// writerConn is a connection of clients. What they have in flight is far less than the flow-control window that every server
// grants, and the server may send far more than it ever will: neither side waits for the other one's window.
type writerConn struct {
	conn   net.Conn
	in     *bufio.Reader
	out    *bufio.Writer
	frames *http2.Framer
	fields []hpack.HeaderField // of each request
	coder  *hpack.Encoder
	block  bytes.Buffer // written by coder
	body   []byte
	value  []byte
	stream uint32             // of the next request
	flying map[uint32]*writer // by stream
}

const (
	prefixLength = 5       // of a gRPC message: compressed or not, length
	writerWindow = 1 << 30 // bytes that the server may send
	headerTable  = 4096    // bytes of the table that headers are compressed with, as HTTP/2 begins with it
	writerBuffer = 64 << 10
)

func newWriterConn(conn net.Conn, value []byte) *writerConn {
	c := &writerConn{conn: conn, in: bufio.NewReaderSize(conn, writerBuffer), out: bufio.NewWriterSize(conn, writerBuffer),
		value: value, stream: 1, flying: map[uint32]*writer{}}
	c.coder = hpack.NewEncoder(&c.block)
	c.frames = http2.NewFramer(c.out, c.in)
	c.frames.ReadMetaHeaders = hpack.NewDecoder(headerTable, nil)
	c.frames.SetReuseFrames()
	return c
}

// open begins the connection.
func (c *writerConn) open(addr string) error {
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", pb.KV_Txn_FullMethodName}, {":authority", addr},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-timeout", fmt.Sprintf("%dS", int(client.WaitLimit.Seconds()))}} {
		c.fields = append(c.fields, hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_, err := c.out.WriteString(http2.ClientPreface)
	return errors.Join(err, c.frames.WriteSettings(), c.frames.WriteWindowUpdate(0, writerWindow))
}

// send writes the next request of a client.
func (c *writerConn) send(one *writer) error {
	key := fmt.Appendf(nil, "%s/%06d", one.name, one.sent)
	one.sent++
	one.wrote = false
	var err error
	c.body, err = proto.MarshalOptions{}.MarshalAppend(append(c.body[:0], make([]byte, prefixLength)...), createTxn(key, c.value))
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(c.body[1:], uint32(len(c.body)-prefixLength))
	c.block.Reset()
	for _, f := range c.fields {
		if err := c.coder.WriteField(f); err != nil {
			return err
		}
	}
	c.flying[c.stream] = one
	err = errors.Join(
		c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream, BlockFragment: c.block.Bytes(), EndHeaders: true}),
		c.frames.WriteData(c.stream, true, c.body))
	c.stream += 2
	return err
}

// createTxn puts a key that is not there.
func createTxn(key, value []byte) *pb.TxnRequest {
	return &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: key, Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{}}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: value}}}},
	}
}

// next reads a frame. It returns the client whose write is acknowledged with it, if there is one.
func (c *writerConn) next() (*writer, error) {
	if c.in.Buffered() == 0 {
		if err := errors.Join(c.conn.SetDeadline(time.Now().Add(client.WaitLimit)), c.out.Flush()); err != nil {
			return nil, err
		}
	}
	frame, err := c.frames.ReadFrame()
	if err != nil {
		return nil, err
	}
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return nil, c.frames.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return nil, c.frames.WritePing(true, f.Data)
		}
	case *http2.DataFrame:
		return nil, c.answered(f)
	case *http2.MetaHeadersFrame:
		if f.StreamEnded() {
			return c.ended(f)
		}
	case *http2.RSTStreamFrame, *http2.GoAwayFrame:
		return nil, fmt.Errorf("the server has sent %v", frame)
	}
	return nil, nil
}

// answered notes what an answer says.
func (c *writerConn) answered(f *http2.DataFrame) error {
	one, message := c.flying[f.StreamID], f.Data()
	if one == nil || len(message) < prefixLength || int(binary.BigEndian.Uint32(message[1:])) != len(message)-prefixLength {
		return fmt.Errorf("stream %d: %d bytes are no answer", f.StreamID, len(message))
	}
	var resp pb.TxnResponse
	if err := proto.Unmarshal(message[prefixLength:], &resp); err != nil {
		return err
	}
	one.wrote = resp.Succeeded
	return nil
}

// ended requires that a write is acknowledged.
func (c *writerConn) ended(f *http2.MetaHeadersFrame) (*writer, error) {
	one := c.flying[f.StreamID]
	delete(c.flying, f.StreamID)
	for _, field := range f.Fields {
		if field.Name == "grpc-status" && field.Value == "0" && one != nil && one.wrote {
			return one, nil
		}
	}
	return nil, fmt.Errorf("stream %d has written nothing: %v", f.StreamID, f.Fields)
}

// TestWritersTellWhatTheyWrote counts the keys of writers, and lets others write them again.
func TestWritersTellWhatTheyWrote(t *testing.T) {
	n := newWorld(t).node(quorumStore)
	ok(t, n.Start())
	w := startWriters(n.Addr, "/writers", 3, 10, 1)
	ok(t, client.Until(client.WaitLimit, time.Millisecond, func() error {
		if acked := w.acked.Load(); acked < 100 {
			return fmt.Errorf("%d writes", acked)
		}
		return nil
	}))
	ok(t, w.end())
	requireKeys(t, n.Client(t), "/writers", w.acked.Load())
	again := startWriters(n.Addr, "/writers", 3, 10, 1)
	again.done.Wait()
	if err := again.end(); err == nil || again.acked.Load() > 0 {
		t.Errorf("%d keys are created again, %v", again.acked.Load(), err)
	}
}
