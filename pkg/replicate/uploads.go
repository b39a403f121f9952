package replicate

import (
	"fmt"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// uploads counts what object storage does not hold yet. It is not safe for concurrent
// use.
type uploads struct {
	groups []waitingUpload // ascending
	bytes  int64
}

type waitingUpload struct {
	last  sqllog.ID
	bytes int
}

// add notes a group up to an id, of so many bytes of keys and values.
func (u *uploads) add(last sqllog.ID, bytes int) {
	u.bytes += int64(bytes)
	if n := len(u.groups); n > 0 && u.groups[n-1].bytes < uploadGrain {
		u.groups[n-1].last = last
		u.groups[n-1].bytes += bytes
		return
	}
	u.groups = append(u.groups, waitingUpload{last: last, bytes: bytes})
}

// uploadGrain is how exact the count is: groups are counted together up to it.
const uploadGrain = 1 << 16

// uploaded notes that object storage holds every row up to an id.
func (u *uploads) uploaded(id sqllog.ID) {
	n := 0
	for n < len(u.groups) && u.groups[n].last <= id {
		u.bytes -= int64(u.groups[n].bytes)
		n++
	}
	u.groups = u.groups[n:]
}

// uploadErr is why no write is taken: too much waits for its upload.
func (q *quorum) uploadErr() error {
	q.mu.Lock()
	bytes := q.waiting.bytes
	q.mu.Unlock()
	if bytes <= q.cfg.MaxPendingUpload {
		return nil
	}
	return fmt.Errorf("%w: %d bytes wait for object storage, of at most %d (--max-pending-upload-bytes)", ErrUnavailable, bytes, q.cfg.MaxPendingUpload)
}
