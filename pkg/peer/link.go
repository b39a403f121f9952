package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sirupsen/logrus"
)

// Times between two attempts to reach a peer. It may come back at any moment, and is
// then needed at once; an attempt is one SYN.
const (
	retryFirst   = 10 * time.Millisecond
	retryMost    = 100 * time.Millisecond
	retryRefused = 500 * time.Millisecond
)

// link is this node's way to one peer. It keeps a lane for control messages open all
// the time, and one for calls from the first call on.
type link struct {
	t    *Transport
	peer Peer
	// ctx ends with the link.
	ctx    context.Context
	cancel context.CancelCauseFunc
	again  chan struct{} // ends the wait for the next attempt
	queue  messageQueue
	calls  callStreams
}

// newLink is called with t.mu held.
func (t *Transport) newLink(p Peer) *link {
	l := &link{t: t, peer: p, again: make(chan struct{}, 1), queue: messageQueue{wake: make(chan struct{}, 1)}}
	l.ctx, l.cancel = context.WithCancelCause(t.ctx)
	t.wg.Go(l.run)
	return l
}

// end ends the link. It does not wait.
func (l *link) end() { l.cancel(ErrUnknownPeer) }

// retry has the next attempt made now.
func (l *link) retry() {
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// run keeps the control lane open until the link ends.
func (l *link) run() {
	log := l.t.cfg.Logger.WithFields(logrus.Fields{"peer": l.peer.Name, "peer-id": l.peer.ID.String(), "address": l.peer.Address})
	wait, logged := retryFirst, ""
	for l.ctx.Err() == nil {
		reached, err := l.control(func() {
			if logged != "" {
				log.Info("peer reached again")
			}
			logged = ""
		})
		if l.ctx.Err() != nil {
			return
		}
		if reached {
			wait = retryFirst
		}
		if text := err.Error(); text != logged && (logged == "" || errors.Is(err, ErrRefused)) {
			log.WithError(err).Warn("peer not reached")
			logged = text
		}
		if errors.Is(err, ErrRefused) {
			wait = retryRefused
		}
		l.pause(wait)
		wait = min(2*wait, retryMost)
	}
}

// pause waits, for about the given time, before the next attempt.
func (l *link) pause(wait time.Duration) {
	timer := time.NewTimer(wait - rand.N(wait/5+1))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.again:
	case <-l.ctx.Done():
	}
}
