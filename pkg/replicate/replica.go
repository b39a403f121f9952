package replicate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// follow is the role of a Replica that hears a Primary.
type follow struct {
	m       *Member
	primary elect.NodeID
	epoch   sqllog.Epoch // promised
}

// Waits between two tries to follow.
const (
	followFirst = 20 * time.Millisecond
	followMost  = time.Second
)

func (r follow) run(ctx context.Context) {
	m := r.m
	m.leader.set(r.primary, r.epoch)
	defer m.leader.clear(r.epoch)
	for wait := followFirst; ctx.Err() == nil; wait = min(2*wait, followMost) {
		if m.recoverLog(ctx) != nil {
			return
		}
		began := time.Now()
		err := r.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Second {
			wait = followFirst
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			m.control.do(func(core *elect.Core, now time.Duration) { core.Gone(now, r.primary, r.epoch) })
		}
		if status.Code(err) == codes.DataLoss {
			m.fatal(fmt.Errorf("%w: %s; delete it, so that the node joins with an empty disk", ErrOldDisk, status.Convert(err).Message()))
			return
		}
		m.logger.WithError(err).WithField("primary", r.primary).WithField("epoch", r.epoch).Info("stream of rows has ended; it is opened anew")
		if status.Code(err) == codes.OutOfRange || isDivergence(err) {
			_ = m.catchUp(ctx) // it has said why
		}
		pause(ctx, wait)
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// once follows over one stream until it ends.
func (r follow) once(ctx context.Context) error {
	m := r.m
	head := m.log.Head()
	end := elect.Position{ID: head.ID, Epoch: head.Epoch}
	f := NewFollower(r.epoch, end, m.store.Head().ID)
	s, err := m.peers.Follow(ctx, r.primary, peer.FollowOpen{Promised: m.log.Promised(), Last: end})
	if err != nil {
		return err
	}
	defer s.Close()
	opened := s.Opened()
	cut, err := f.Opened(opened.Epoch, opened.TruncateTo)
	if err != nil {
		return err
	}
	m.applier.forget()
	if cut {
		if err := r.cut(ctx, opened.TruncateTo); err != nil {
			return err
		}
	}
	s.Receipt(f.Receipt())
	m.streaming.Store(true)
	defer m.streaming.Store(false)
	in := newInbound()
	reader := make(chan struct{})
	go func() {
		defer close(reader)
		in.read(s)
	}()
	defer func() {
		s.Close()
		in.end(nil)
		<-reader
	}()
	return r.take(ctx, s, f, in)
}

// cut removes the rows after the last common one. None of them was shown.
func (r follow) cut(ctx context.Context, to elect.Position) error {
	head, err := r.m.headAt(ctx, to)
	if err != nil {
		return err
	}
	r.m.logger.WithField("from", to.ID+1).WithField("to", r.m.log.Head().ID).Info("rows that were not committed are cut off the log")
	if err := r.m.log.TruncateIn(r.epoch, head); err != nil {
		return fmt.Errorf("cut the log: %w", err)
	}
	return nil
}

// take appends what comes in, as much at a time as has come, and answers with
// receipts.
func (r follow) take(ctx context.Context, s Following, f *Follower, in *inbound) error {
	m := r.m
	for {
		came, err := in.next(ctx)
		if err != nil {
			return err
		}
		rows, err := r.join(f, came.frames)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			if err := m.log.AppendIn(r.epoch, rows); err != nil {
				return fmt.Errorf("append rows of the primary: %w", err)
			}
			s.Receipt(f.Appended(rows[len(rows)-1].ID))
			m.applier.keep(rows)
		}
		if err := m.applier.applyTo(ctx, f.Committed(came.committed)); err != nil {
			return err
		}
		m.applier.heard.open(came.committed)
		m.archive.UploadedElsewhere(min(came.uploaded, f.Receipt()))
		m.caught(int64(came.committed - m.store.Head().ID))
	}
}

// join checks frames and gives their rows as one group.
func (r follow) join(f *Follower, frames []*peer.Frame) ([]sqllog.Row, error) {
	var rows []sqllog.Row
	for i, frame := range frames {
		n := len(frame.Rows)
		if n == 0 {
			continue
		}
		last := elect.Position{ID: frame.Rows[n-1].ID, Epoch: frame.Rows[n-1].Epoch}
		if err := f.Frame(frame.Prev, last, n); err != nil {
			return nil, err
		}
		if i == 0 && len(frames) == 1 {
			return frame.Rows, nil
		}
		rows = append(rows, frame.Rows...)
	}
	return rows, nil
}

// maxInbound bounds the bytes that were received and are not appended yet.
const maxInbound = 64 << 20

// inbound is what was received and not taken yet.
type inbound struct {
	mu        sync.Mutex
	changed   *sync.Cond
	frames    []*peer.Frame
	size      int
	committed sqllog.ID
	uploaded  sqllog.ID
	err       error
	ended     bool
	wake      chan struct{} // size one
}

func newInbound() *inbound {
	in := &inbound{wake: make(chan struct{}, 1)}
	in.changed = sync.NewCond(&in.mu)
	return in
}

// read reads a stream to its end.
func (in *inbound) read(s Following) {
	for {
		frame, err := s.Recv()
		if err != nil {
			in.end(err)
			return
		}
		if !in.put(frame) {
			return
		}
	}
}

// put takes a frame, once there is room for it. It reports false when nobody takes
// frames any more.
func (in *inbound) put(f *peer.Frame) bool {
	size := 0
	for i := range f.Rows {
		size += len(f.Rows[i].Key) + len(f.Rows[i].Value) + rowOverhead
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.size > 0 && in.size+size > maxInbound && !in.ended {
		in.changed.Wait()
	}
	if in.ended {
		return false
	}
	if len(f.Rows) > 0 {
		in.frames = append(in.frames, f)
		in.size += size
	}
	in.committed, in.uploaded = max(in.committed, f.Committed), max(in.uploaded, f.Uploaded)
	in.signal()
	return true
}

func (in *inbound) signal() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// end ends the taking; the frames that are there are taken before err is told.
func (in *inbound) end(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.ended {
		in.ended, in.err = true, err
	}
	in.changed.Broadcast()
	in.signal()
}

// intake is what has come: frames, and what the Primary says of all rows.
type intake struct {
	frames              []*peer.Frame
	committed, uploaded sqllog.ID
}

// next waits for frames, or news of what is committed.
func (in *inbound) next(ctx context.Context) (came intake, err error) {
	select {
	case <-in.wake:
	case <-ctx.Done():
		return intake{}, context.Cause(ctx)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	came = intake{frames: in.frames, committed: in.committed, uploaded: in.uploaded}
	in.frames, in.size = nil, 0
	in.changed.Broadcast()
	if in.ended && len(came.frames) == 0 {
		if in.err == nil {
			in.err = errRoleEnded
		}
		return intake{}, in.err
	}
	if in.ended {
		in.signal()
	}
	return came, nil
}
