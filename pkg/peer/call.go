package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Forward has a request of a client of this node answered by another node, the
// Primary. It blocks until the answer came or ctx ends, whose deadline the other node
// is told. An error of the request itself is in the response. Otherwise:
//
//	ErrNotSent         nothing has happened: the peer is not reached, or is not known
//	                   (ErrUnknownPeer), or ctx ended too early, or the request is too
//	                   large (ErrTooLarge); it may be tried again
//	ErrUnknownOutcome  the request was sent, and then ctx or the connection ended
//
// Both wrap what led to them.
func (t *Transport) Forward(ctx context.Context, to elect.NodeID, r *peerpb.ForwardRequest) (*peerpb.ForwardResponse, error) {
	answer, err := t.call(ctx, to, &peerpb.Call{Call: &peerpb.Call_Forward{Forward: r}})
	if err != nil {
		return nil, err
	}
	switch a := answer.GetAnswer().(type) {
	case *peerpb.CallAnswer_Forward:
		return a.Forward, nil
	case *peerpb.CallAnswer_Error:
		return nil, fmt.Errorf("%w: %w", ErrNotSent, decodeStatus(a.Error))
	}
	return nil, fmt.Errorf("%w: an answer of a kind that is not known", ErrUnknownOutcome)
}

// Committed asks the Primary of an epoch for an id at or above that of every row that
// was acknowledged before the call. Errors of the Primary come as gRPC statuses, those
// on the way as ErrNotSent and ErrUnknownOutcome; the call may be tried again in any
// case.
func (t *Transport) Committed(ctx context.Context, to elect.NodeID, epoch sqllog.Epoch) (sqllog.ID, error) {
	request := &peerpb.CommittedRequest{Epoch: int64(epoch)}
	answer, err := t.call(ctx, to, &peerpb.Call{Call: &peerpb.Call_Committed{Committed: request}})
	if err != nil {
		return 0, err
	}
	switch a := answer.GetAnswer().(type) {
	case *peerpb.CallAnswer_Committed:
		d := decoder{}
		id := d.id(a.Committed.GetId())
		return id, d.err
	case *peerpb.CallAnswer_Error:
		return 0, decodeStatus(a.Error)
	}
	return 0, status.Error(codes.Internal, "an answer of a kind that is not known")
}

func (t *Transport) call(ctx context.Context, to elect.NodeID, c *peerpb.Call) (*peerpb.CallAnswer, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, context.Cause(ctx))
	}
	l := t.link(to)
	if l == nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, ErrUnknownPeer)
	}
	if deadline, ok := ctx.Deadline(); ok {
		c.TimeoutMs = uint64(max(time.Until(deadline).Milliseconds(), 1))
	}
	body, err := proto.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	if len(body) > t.cfg.MaxFrameBytes {
		return nil, fmt.Errorf("%w: %w: %d bytes", ErrNotSent, ErrTooLarge, len(body))
	}
	s, err := l.calls.stream(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return s.do(ctx, &call{member: member{body: body}, done: make(chan struct{})})
}

// callStreams opens the stream of calls to a peer when the first call is made, and a new
// one for the first call after that has ended.
type callStreams struct {
	mu      sync.Mutex
	current *opening
}

// opening is a stream that is being opened, or was.
type opening struct {
	ready  chan struct{} // closed when it was opened, or could not be
	stream *callStream
	err    error
}

// stream returns the open stream. It waits while one is being opened: for about a
// second at most.
func (c *callStreams) stream(ctx context.Context, l *link) (*callStream, error) {
	c.mu.Lock()
	o := c.current
	if o == nil || o.over() {
		o = &opening{ready: make(chan struct{})}
		if !l.t.spawn(func() { o.open(l) }) {
			c.mu.Unlock()
			return nil, ErrClosed
		}
		c.current = o
	}
	c.mu.Unlock()
	select {
	case <-o.ready:
		return o.stream, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// over reports whether the stream could not be opened, or has ended.
func (o *opening) over() bool {
	select {
	case <-o.ready:
		return o.err != nil || o.stream.lane.ctx.Err() != nil
	default:
		return false
	}
}

// open opens the stream and works for it until it has ended.
func (o *opening) open(l *link) {
	lane, err := l.t.openLane(l.ctx, l.peer)
	if err != nil {
		o.err = err
		close(o.ready)
		return
	}
	defer lane.close(ErrClosed)
	defer context.AfterFunc(l.ctx, func() { lane.end(context.Cause(l.ctx)) })()
	stream, err := lane.client.Call(lane.ctx, answerLimit)
	if err != nil {
		o.err = lane.explain(err)
		close(o.ready)
		return
	}
	s := &callStream{lane: lane, stream: stream, wake: make(chan struct{}, 1), waiting: map[uint64]*call{}}
	o.stream = s
	close(o.ready)
	lane.wg.Go(s.receive)
	s.send()
}

// call is one call on its way. Its fields are guarded by the stream's mutex until done
// is closed.
type call struct {
	member
	sent   bool
	done   chan struct{}
	answer *peerpb.CallAnswer
	err    error
}

// cancelBody is the body of a call that ends another one.
var cancelBody = mustEncode(&peerpb.Call{Call: &peerpb.Call_Cancel{Cancel: &peerpb.CallCancel{}}})

func mustEncode(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// callStream carries calls. What waits to be sent while a message is on its way goes
// into the next one, all together.
type callStream struct {
	lane   *lane
	stream peerpb.Peer_CallClient
	wake   chan struct{} // of size one: has an entry where queue is not empty

	mu      sync.Mutex
	lastID  uint64
	queue   []*call
	batch   []member         // of take, kept for its memory
	waiting map[uint64]*call // by id, queued or sent
	ended   error
}

// do has a call answered.
func (s *callStream) do(ctx context.Context, c *call) (*peerpb.CallAnswer, error) {
	if err := s.enqueue(c); err != nil {
		return nil, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		s.giveUp(c, context.Cause(ctx))
	}
	return c.answer, c.err
}

func (s *callStream) enqueue(c *call) error {
	s.mu.Lock()
	if s.ended != nil {
		s.mu.Unlock()
		return fmt.Errorf("%w: %w", ErrNotSent, s.ended)
	}
	s.lastID++
	c.id = s.lastID
	s.waiting[s.lastID] = c
	s.queue = append(s.queue, c)
	s.mu.Unlock()
	signal(s.wake)
	return nil
}

// giveUp ends a call for which nobody waits any more, unless it was answered.
func (s *callStream) giveUp(c *call, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[c.id] != c {
		return // answered
	}
	s.finishLocked(c, nil, outcome(c, cause))
	if !c.sent {
		s.queue = slices.DeleteFunc(s.queue, func(queued *call) bool { return queued == c })
	} else {
		s.queue = append(s.queue, &call{member: member{c.id, cancelBody}})
		signal(s.wake)
	}
}

// outcome is the error of a call that is not answered.
func outcome(c *call, cause error) error {
	if c.sent {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, cause)
	}
	return fmt.Errorf("%w: %w", ErrNotSent, cause)
}

func (s *callStream) finishLocked(c *call, answer *peerpb.CallAnswer, err error) {
	delete(s.waiting, c.id)
	c.answer, c.err = answer, err
	close(c.done)
}

// send sends what is queued, until the lane ends.
func (s *callStream) send() {
	for {
		select {
		case <-s.wake:
		case <-s.lane.ctx.Done():
			s.endAll(context.Cause(s.lane.ctx))
			return
		}
		for {
			runtime.Gosched() // goroutines that are about to call come first, into the same message
			batch := s.take()
			if batch == nil {
				break
			}
			if err := s.stream.SendMsg(batch); err != nil {
				if !errors.Is(err, io.EOF) { // else receive has the reason
					s.lane.end(err)
				}
				break
			}
		}
	}
}

// take takes the next batch from the queue; nil if there is none. What it holds counts as
// sent.
func (s *callStream) take() pooled {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil
	}
	s.batch = s.batch[:0]
	for _, c := range s.queue[:min(len(s.queue), batchCalls)] {
		s.batch = append(s.batch, c.member)
	}
	n := fits(s.batch)
	for _, c := range s.queue[:n] {
		c.sent = true
	}
	s.queue = slices.Delete(s.queue, 0, n)
	b := encodeBatch(s.batch[:n])
	clear(s.batch)
	return b
}

// receive hands out answers until the stream ends; then so does the lane.
func (s *callStream) receive() {
	for {
		batch, err := s.stream.Recv()
		if err != nil {
			s.lane.end(s.lane.explain(err))
			return
		}
		s.mu.Lock()
		for _, answer := range batch.Answers {
			if c := s.waiting[answer.GetId()]; c != nil && c.sent {
				s.finishLocked(c, answer, nil)
			}
		}
		s.mu.Unlock()
	}
}

// endAll ends the calls that were not answered, and takes no other ones.
func (s *callStream) endAll(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = cause
	s.queue = nil
	for _, c := range s.waiting {
		s.finishLocked(c, nil, outcome(c, cause))
	}
}
