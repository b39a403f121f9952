package peer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

// Bounds of a queue of control messages.
const (
	queueMessages = 256
	queueAge      = time.Second // older ones are not worth being sent
)

// messageQueue holds control messages that wait for a peer; the oldest is dropped
// where there are too many. Safe for concurrent use.
type messageQueue struct {
	wake chan struct{} // of size one: has an entry where there may be messages

	mu       sync.Mutex
	messages []queuedMessage
}

type queuedMessage struct {
	message elect.Message
	at      time.Time
}

// put never blocks.
func (q *messageQueue) put(m elect.Message, now time.Time) {
	q.mu.Lock()
	if len(q.messages) == queueMessages {
		q.messages = append(q.messages[:0], q.messages[1:]...)
	}
	q.messages = append(q.messages, queuedMessage{m, now})
	q.mu.Unlock()
	signal(q.wake)
}

// take empties the queue and returns what is not too old, in order.
func (q *messageQueue) take(now time.Time) []elect.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	var fresh []elect.Message
	for _, m := range q.messages {
		if now.Sub(m.at) <= queueAge {
			fresh = append(fresh, m.message)
		}
	}
	clear(q.messages)
	q.messages = q.messages[:0]
	return fresh
}

// signal leaves an entry in a channel of size one.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Send sends a message, if it can. It never blocks; a message that finds no way within
// a second is forgotten, and so are the oldest of more than 256 that wait. To a node
// that is not among the peers nothing is sent.
func (t *Transport) Send(to elect.NodeID, m elect.Message) {
	if l := t.link(to); l != nil {
		l.queue.put(m, time.Now())
	}
}

// control opens the control lane, calls reached, and sends what the queue holds until
// the lane ends. It reports whether it was opened.
func (l *link) control(reached func()) (bool, error) {
	lane, err := l.t.openLane(l.ctx, l.peer)
	if err != nil {
		return false, err
	}
	defer lane.close(ErrClosed)
	defer context.AfterFunc(l.ctx, func() { lane.end(ErrClosed) })()
	stream, err := lane.client.Control(lane.ctx)
	if err != nil {
		return false, lane.explain(err)
	}
	lane.wg.Go(func() { lane.end(lane.explain(stream.RecvMsg(&peerpb.ControlEnd{}))) })
	reached()
	for {
		select {
		case <-l.queue.wake:
		case <-lane.ctx.Done():
			return true, context.Cause(lane.ctx)
		case <-lane.goodbye:
			return true, errStops
		}
		messages := l.queue.take(time.Now())
		if len(messages) == 0 {
			continue
		}
		// An error ends the stream, and so the lane, with the reason.
		_ = stream.Send(encodeMessages(messages))
	}
}

func encodeMessages(messages []elect.Message) *peerpb.ControlBatch {
	batch := &peerpb.ControlBatch{Messages: make([]*peerpb.ElectMessage, len(messages))}
	for i, m := range messages {
		batch.Messages[i] = encodeMessage(m)
	}
	return batch
}

// Control hands the messages of a peer to the node.
func (s *service) Control(stream peerpb.Peer_ControlServer) error {
	from, _ := caller(stream.Context())
	for {
		batch, err := stream.Recv()
		if err != nil {
			return ending(stream.Context(), err)
		}
		for _, encoded := range batch.Messages {
			m, err := decodeMessage(encoded)
			if err != nil {
				return malformed(fmt.Errorf("control message: %w", err))
			}
			if m != nil { // of a newer version
				s.t.cfg.Handler.Receive(from, m)
			}
		}
	}
}
