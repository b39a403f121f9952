package mvcc

import "github.com/kinsy/kinsy/pkg/sqllog"

// EvaluateMembers adds a member row, which says who votes, and returns its id. No
// revision moves.
func (s *Store) EvaluateMembers(b *Batch, value []byte) sqllog.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.addRow(b, sqllog.Row{Kind: sqllog.KindMember, Revision: sqllog.Revision(s.revision), Value: value})
	b.last = s.revision
	return id
}
