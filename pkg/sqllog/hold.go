package sqllog

import "sync"

// HoldRemoval keeps Remove waiting until release is called, so that several
// scans see the same rows up to the head of now: neither is one transaction.
// Several holds may be in force; Remove goes on after the last. Everything else
// goes on meanwhile, and Close does not wait: it ends the waiting with
// ErrClosed. Both calls wait for a write under way. release may be called more
// than once, from any goroutine, and after Close.
func (l *Log) HoldRemoval() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holds++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.holds--; l.holds == 0 {
			l.released.Broadcast()
		}
	})
}
