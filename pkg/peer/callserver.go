package peer

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

const (
	// maxCalls bounds the calls of one peer that are worked on at a time; others wait
	// in the connection.
	maxCalls = 4096
	// idleWorkers is how many goroutines of a stream wait for the next call. One that
	// is new must grow its stack first.
	idleWorkers = 256
	// maxAnswerBytes bounds one answer: as in etcd a Txn may read much more than it
	// may write.
	maxAnswerBytes = 512 << 20
)

// answerLimit lets a batch of answers in.
var answerLimit = grpc.MaxCallRecvMsgSize(maxAnswerBytes + batchBytes + frameSlack)

// Call serves the calls of a peer.
func (s *service) Call(stream peerpb.Peer_CallServer) error {
	if !s.t.handling() {
		return errStops
	}
	defer s.t.handlers.Done()
	c := &callServer{
		t: s.t, stream: stream, wake: make(chan struct{}, 1), slots: make(chan struct{}, maxCalls),
		work: make(chan work), cancels: map[uint64]context.CancelFunc{},
	}
	c.ctx, c.cancel = context.WithCancelCause(stream.Context())
	defer c.cancel(context.Canceled)
	if !s.t.spawn(c.receive) {
		return errStops
	}
	for {
		select {
		case <-c.wake:
			if err := c.flush(); err != nil {
				c.cancel(err)
			}
		case <-c.ctx.Done():
			c.finish()
			return ending(stream.Context(), context.Cause(c.ctx))
		}
	}
}

// callServer serves one stream of calls.
type callServer struct {
	t      *Transport
	stream peerpb.Peer_CallServer
	// ctx is that of all calls; it ends with the stream.
	ctx    context.Context
	cancel context.CancelCauseFunc

	slots   chan struct{} // an entry for each call that is worked on
	work    chan work     // to workers that are idle
	idle    atomic.Int32
	workers sync.WaitGroup
	wake    chan struct{} // of size one: has an entry where answers is not empty
	lastID  uint64        // of receive

	mu       sync.Mutex
	finished bool // no call begins any more
	answers  []member
	cancels  map[uint64]context.CancelFunc // of the calls that are worked on
}

// work is a call and its context.
type work struct {
	ctx  context.Context
	call *peerpb.Call
}

// receive begins calls as they come, until the stream ends.
func (c *callServer) receive() {
	for {
		batch, err := c.stream.Recv()
		if err != nil {
			c.cancel(err)
			return
		}
		for _, call := range batch.Calls {
			if _, ok := call.GetCall().(*peerpb.Call_Cancel); ok {
				c.abandon(call.GetId())
				continue
			}
			if call.GetId() <= c.lastID {
				c.cancel(malformed(fmt.Errorf("call %d after call %d", call.GetId(), c.lastID)))
				return
			}
			c.lastID = call.GetId()
			select {
			case c.slots <- struct{}{}:
				c.begin(call)
			case <-c.ctx.Done():
				return
			}
		}
	}
}

// begin gives a call to a worker.
func (c *callServer) begin(call *peerpb.Call) {
	w := work{call: call}
	var cancel context.CancelFunc
	if ms := call.GetTimeoutMs(); ms > 0 && ms < maxTimeoutMs {
		w.ctx, cancel = context.WithTimeout(c.ctx, time.Duration(ms)*time.Millisecond)
	} else {
		w.ctx, cancel = context.WithCancel(c.ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished {
		cancel()
		return
	}
	c.cancels[call.GetId()] = cancel
	select {
	case c.work <- w:
	default:
		c.workers.Go(func() { c.worker(w) })
	}
}

// maxTimeoutMs is where a time-out is as good as none.
const maxTimeoutMs = uint64(24 * time.Hour / time.Millisecond)

// abandon ends the context of a call for which nobody waits.
func (c *callServer) abandon(id uint64) {
	c.mu.Lock()
	cancel := c.cancels[id]
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// worker works on a call, and then on others, unless enough workers wait for them.
func (c *callServer) worker(w work) {
	for {
		c.done(w, c.run(w))
		if c.idle.Add(1) > idleWorkers {
			c.idle.Add(-1)
			return
		}
		select {
		case w = <-c.work:
			c.idle.Add(-1)
		case <-c.ctx.Done():
			return
		}
	}
}

// run has a call answered by the node, and encodes the answer.
func (c *callServer) run(w work) []byte {
	a := c.ask(w)
	size := proto.Size(a)
	body, err := proto.MarshalOptions{UseCachedSize: true}.Marshal(a)
	switch {
	case err != nil:
		err = status.Error(codes.Internal, err.Error())
	case size > maxAnswerBytes:
		err = status.Errorf(codes.ResourceExhausted, "the answer has %d bytes", size)
	default:
		return body
	}
	return mustEncode(failed(w.call, err))
}

// ask asks the node.
func (c *callServer) ask(w work) (a *peerpb.CallAnswer) {
	defer func() {
		if p := recover(); p != nil {
			a = failed(w.call, c.t.recovered(peerpb.Peer_Call_FullMethodName, p))
		}
	}()
	switch call := w.call.GetCall().(type) {
	case *peerpb.Call_Forward:
		response := c.t.cfg.Handler.Forward(w.ctx, call.Forward)
		if response == nil {
			return failed(w.call, status.Error(codes.Unavailable, "no answer"))
		}
		return &peerpb.CallAnswer{Answer: &peerpb.CallAnswer_Forward{Forward: response}}
	case *peerpb.Call_Committed:
		id, err := c.t.cfg.Handler.Committed(w.ctx, sqllog.Epoch(call.Committed.GetEpoch()))
		if err != nil {
			return failed(w.call, err)
		}
		return &peerpb.CallAnswer{Answer: &peerpb.CallAnswer_Committed{Committed: &peerpb.CommittedResponse{Id: int64(id)}}}
	}
	return failed(w.call, status.Error(codes.Unimplemented, "a call of a kind that this version does not know"))
}

// failed is the answer to a call that has failed. A forwarded one may have had its
// effect: an error outside of the response would say that it has not.
func failed(call *peerpb.Call, err error) *peerpb.CallAnswer {
	told := encodeStatus(err)
	if call.GetForward() != nil {
		response := &peerpb.ForwardResponse{Response: &peerpb.ForwardResponse_Error{Error: told}}
		return &peerpb.CallAnswer{Answer: &peerpb.CallAnswer_Forward{Forward: response}}
	}
	return &peerpb.CallAnswer{Answer: &peerpb.CallAnswer_Error{Error: told}}
}

// done leaves an answer to be sent.
func (c *callServer) done(w work, body []byte) {
	id := w.call.GetId()
	c.mu.Lock()
	cancel := c.cancels[id]
	delete(c.cancels, id)
	c.answers = append(c.answers, member{id, body})
	c.mu.Unlock()
	cancel()
	<-c.slots
	signal(c.wake)
}

// flush sends the answers that there are.
func (c *callServer) flush() error {
	for {
		runtime.Gosched() // calls that are about to be answered come first, into the same message
		c.mu.Lock()
		answers := c.answers
		c.answers = nil
		c.mu.Unlock()
		if len(answers) == 0 {
			return nil
		}
		for len(answers) > 0 {
			n := fits(answers)
			if err := c.stream.SendMsg(encodeBatch(answers[:n])); err != nil {
				return err
			}
			answers = answers[n:]
		}
	}
}

// finish waits for the calls that are worked on, whose contexts have ended, and sends
// their answers if the peer is still there.
func (c *callServer) finish() {
	c.mu.Lock()
	c.finished = true
	c.mu.Unlock()
	c.workers.Wait()
	_ = c.flush()
}
