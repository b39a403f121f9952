package replicate

import (
	"sync"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// recentBytes bounds the groups that a Primary keeps in memory for its Replicas;
// older rows come from the log.
const recentBytes = 64 << 20

// frame is a group of rows on its way to Replicas. It is never changed.
type frame struct {
	prev elect.Position
	rows []sqllog.Row
	size int
}

func (f *frame) last() elect.Position {
	r := &f.rows[len(f.rows)-1]
	return elect.Position{ID: r.ID, Epoch: r.Epoch}
}

// recent holds the newest groups of a Primary and what is committed, for the
// streams of its Replicas. Its methods may be called concurrently.
type recent struct {
	mu        sync.Mutex
	frames    []*frame // contiguous, ascending
	size      int
	end       elect.Position // of the newest row
	committed sqllog.ID
	uploaded  sqllog.ID
	more      chan struct{} // closed when the streams have something to send
	closed    bool

	// What is committed goes with the next group, after commitLag where none comes, and
	// at once where a Replica waits for it.
	told   sqllog.ID // of committed, when more was last closed
	wanted sqllog.ID // up to where Replicas wait
	lag    *time.Timer
	armed  bool
}

// commitLag is how long Replicas are not told what is committed. A message of its own
// for each group would cost every node more than the group does.
const commitLag = time.Millisecond

// newRecent begins after a row, up to which everything is committed and uploaded.
func newRecent(end elect.Position) *recent {
	r := &recent{end: end, committed: end.ID, uploaded: end.ID, told: end.ID, more: make(chan struct{})}
	r.lag = time.AfterFunc(time.Hour, r.lagged)
	r.lag.Stop()
	return r
}

// add takes a group that follows the newest row.
func (r *recent) add(rows []sqllog.Row, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := &frame{prev: r.end, rows: rows, size: size + rowOverhead*len(rows)}
	r.frames = append(r.frames, f)
	r.size += f.size
	r.end = f.last()
	drop := 0
	for r.size > recentBytes && drop < len(r.frames)-1 {
		r.size -= r.frames[drop].size
		drop++
	}
	if drop > 0 {
		r.frames = append([]*frame(nil), r.frames[drop:]...)
	}
	r.wakeLocked()
}

// rowOverhead is about what a row takes beside its key and value, in bytes.
const rowOverhead = 128

// progress notes what is committed and what is uploaded.
func (r *recent) progress(committed, uploaded sqllog.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if committed <= r.committed && uploaded <= r.uploaded {
		return
	}
	r.committed, r.uploaded = max(r.committed, committed), max(r.uploaded, uploaded)
	switch {
	case r.awaitedLocked():
		r.wakeLocked()
	case !r.armed && !r.closed:
		r.armed = true
		r.lag.Reset(commitLag)
	}
}

// want has the Replicas told at once when rows up to id are committed.
func (r *recent) want(id sqllog.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = max(r.wanted, id)
	if r.awaitedLocked() {
		r.wakeLocked()
	}
}

// awaitedLocked reports whether Replicas wait for what is committed and was not told.
func (r *recent) awaitedLocked() bool { return r.told < r.wanted && r.wanted <= r.committed }

// lagged is what the timer calls.
func (r *recent) lagged() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.armed {
		r.wakeLocked()
	}
}

// close ends all waiting.
func (r *recent) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed = true
		close(r.more)
		r.lag.Stop()
	}
}

func (r *recent) wakeLocked() {
	r.told = r.committed
	if r.armed {
		r.armed = false
		r.lag.Stop()
	}
	if !r.closed { // else nobody waits any more
		close(r.more)
		r.more = make(chan struct{})
	}
}

// next is what a stream that has sent everything up to a row sends next.
type next struct {
	frames    []*frame      // may be empty
	behind    bool          // the rows after its position come from the log
	oldest    sqllog.ID     // which goes up to this id at least; valid with behind
	committed sqllog.ID     //
	uploaded  sqllog.ID     //
	more      chan struct{} // closed when there is more
	closed    bool
}

// after gives what follows a row, at most about maxBytes of it.
func (r *recent) after(id sqllog.ID, maxBytes int) next {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := next{committed: r.committed, uploaded: r.uploaded, more: r.more, closed: r.closed}
	if id >= r.end.ID {
		return n
	}
	if len(r.frames) == 0 || id < r.frames[0].prev.ID {
		n.behind, n.oldest = true, r.end.ID
		if len(r.frames) > 0 {
			n.oldest = r.frames[0].prev.ID
		}
		return n
	}
	first := len(r.frames) - 1
	for r.frames[first].prev.ID > id {
		first--
	}
	size := 0
	for _, f := range r.frames[first:] {
		if size > 0 && size+f.size > maxBytes {
			break
		}
		n.frames = append(n.frames, f)
		size += f.size
	}
	return n
}
