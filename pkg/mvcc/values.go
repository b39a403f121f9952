package mvcc

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// fetch gives the values of records, from memory or from the log. The caller has
// entered the pins before it found the records, so that their rows are there.
func (s *Store) fetch(ctx context.Context, records []*record) ([][]byte, error) {
	values := make([][]byte, len(records))
	var missing []int
	for i, r := range records {
		v, ok := r.cached()
		if !ok {
			missing = append(missing, i)
			continue
		}
		values[i] = v
	}
	s.cache.hits.Add(int64(len(records) - len(missing)))
	if len(missing) == 0 {
		return values, nil
	}
	return values, s.fetchMissing(ctx, records, missing, values)
}

func (s *Store) fetchMissing(ctx context.Context, records []*record, missing []int, values [][]byte) error {
	s.cache.miss.Add(int64(len(missing)))
	ids := make([]sqllog.ID, len(missing))
	for i, at := range missing {
		ids[i] = records[at].id
	}
	got, err := s.log.Values(ctx, ids)
	if err != nil {
		return s.noteDamage(err)
	}
	fresh := make([]*record, 0, len(missing))
	for i, at := range missing {
		r := records[at]
		if len(got[i]) != int(r.size) {
			return s.noteDamage(fmt.Errorf("%w: value of row %d has %d bytes, not %d", sqllog.ErrCorrupt, r.id, len(got[i]), r.size))
		}
		values[at] = got[i]
		if r.value.CompareAndSwap(nil, &got[i][0]) {
			fresh = append(fresh, r)
		}
	}
	s.cache.add(fresh)
	return nil
}

// noteDamage remembers the first error that shows the log to be corrupt, and
// returns the error.
func (s *Store) noteDamage(err error) error {
	if errors.Is(err, sqllog.ErrCorrupt) && s.damage.CompareAndSwap(nil, &err) {
		s.cfg.Logger.WithError(err).Error("a read has found the log to be corrupt")
	}
	return err
}

// Damage is the first error of a read that has found the log to be corrupt, nil
// if none has.
func (s *Store) Damage() error {
	if err := s.damage.Load(); err != nil {
		return *err
	}
	return nil
}

// value is fetch for one record; nil gives nil.
func (s *Store) value(ctx context.Context, r *record) ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	if v, ok := r.cached(); ok {
		s.cache.hits.Add(1)
		return v, nil
	}
	var out [1][]byte
	err := s.fetchMissing(ctx, []*record{r}, []int{0}, out[:])
	return out[0], err
}

// keyValue builds the message for one record, with its value.
func (s *Store) keyValue(ctx context.Context, r *record) (*mvccpb.KeyValue, error) {
	value, err := s.value(ctx, r)
	if err != nil {
		return nil, err
	}
	kv := &mvccpb.KeyValue{Value: value}
	r.keyValue(kv)
	return kv, nil
}

// keyValues builds the messages for records, with their values unless keysOnly.
func (s *Store) keyValues(ctx context.Context, records []*record, keysOnly bool) ([]*mvccpb.KeyValue, error) {
	if len(records) == 0 {
		return nil, nil
	}
	var values [][]byte
	if !keysOnly {
		var err error
		if values, err = s.fetch(ctx, records); err != nil {
			return nil, err
		}
	}
	messages := make([]mvccpb.KeyValue, len(records))
	out := make([]*mvccpb.KeyValue, len(records))
	for i, r := range records {
		kv := &messages[i]
		r.keyValue(kv)
		if values != nil {
			kv.Value = values[i]
		}
		out[i] = kv
	}
	return out, nil
}
