package gateway

import (
	"cmp"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// frame is the events of one revision.
type frame struct {
	revision int64
	events   []*mvccpb.Event
	keys     map[string]int // where a key's event is
}

// merger gathers the events of several watches by revision, one event a key.
type merger struct {
	frames map[int64]*frame
	bytes  int // of keys and values
}

func (m *merger) empty() bool { return len(m.frames) == 0 }

func (m *merger) add(e *mvccpb.Event) {
	f := m.frames[e.Kv.ModRevision]
	if f == nil {
		if m.frames == nil {
			m.frames = make(map[int64]*frame)
		}
		f = &frame{revision: e.Kv.ModRevision, keys: make(map[string]int)}
		m.frames[f.revision] = f
	}
	at, there := f.keys[string(e.Kv.Key)]
	switch {
	case !there:
		f.keys[string(e.Kv.Key)] = len(f.events)
		f.events = append(f.events, e)
		m.bytes += eventBytes(e)
	case f.events[at].PrevKv == nil && e.PrevKv != nil:
		m.bytes += eventBytes(e) - eventBytes(f.events[at])
		f.events[at] = e
	}
}

// eventOverhead is about what an event needs in memory beside keys and values.
const eventOverhead = 256

func eventBytes(e *mvccpb.Event) int {
	n := eventOverhead + len(e.Kv.Key) + len(e.Kv.Value)
	if e.PrevKv != nil {
		n += len(e.PrevKv.Key) + len(e.PrevKv.Value)
	}
	return n
}

// take removes the frames up to a revision and returns them in order.
func (m *merger) take(upTo int64) []*frame {
	var out []*frame
	for revision, f := range m.frames {
		if revision <= upTo {
			out = append(out, f)
			delete(m.frames, revision)
			for _, e := range f.events {
				m.bytes -= eventBytes(e)
			}
		}
	}
	slices.SortFunc(out, func(a, b *frame) int { return cmp.Compare(a.revision, b.revision) })
	return out
}

// split cuts events that come in order into frames.
func split(events []*mvccpb.Event) []*frame {
	var out []*frame
	for len(events) > 0 {
		n := 1
		for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
			n++
		}
		out = append(out, &frame{revision: events[0].Kv.ModRevision, events: events[:n:n]})
		events = events[n:]
	}
	return out
}
