package simulate

import (
	"fmt"
	"reflect"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// truth knows what has been committed, acknowledged and read, and complains when
// something contradicts it.
type truth struct {
	w       *world
	rows    []row          // committed, for ever; row i has id i+1
	by      []sqllog.Epoch // by the Primary of which epoch, first
	chain   []row          // every row that is or was in the chain
	acked   sqllog.ID      // highest acknowledged to a client
	read    sqllog.ID      // highest that a linearizable read has shown
	ackBy   map[sqllog.Epoch]*process
	wrong   string
	mutated bool // a rule is broken
	stats   stats
}

// stats counts what schedules consist of.
type stats struct {
	Events, Acked, Reads, ReplicaReads, Elections, Hasty, Fences, GaveUp, Deposed, Crashes, Freezes, Cuts, Outages,
	DisksLost, Changes, Rules, HandOvers, Truncations, CaughtUp, ByChunk, Looks, Snapshots, Deletions, Stuck int
}

func (t *truth) complain(format string, args ...any) {
	if t.wrong == "" {
		t.wrong = fmt.Sprintf("at %v: ", t.w.now) + fmt.Sprintf(format, args...)
		t.w.tracef("WRONG %s", t.wrong)
	}
}

// impossible complains of what no rule allows and what does no harm by itself: it is
// not enough to find a broken rule.
func (t *truth) impossible(format string, args ...any) {
	if !t.mutated {
		t.complain(format, args...)
	}
}

// extend notes that the chain has grown: its rows stay for ever.
func (t *truth) extend(c *chunk) {
	t.chain = append(t.chain, c.rows...)
	t.commit("the chain", c.epoch, c.rows)
}

// commit notes that the Primary of an epoch holds rows for committed.
func (t *truth) commit(who any, e sqllog.Epoch, rows []row) {
	for _, r := range rows {
		switch i := int(r.id) - 1; {
		case i < len(t.rows):
			if t.rows[i] != r {
				t.complain("%v commits row %v in epoch %d, and %v is committed", who, r, e, t.rows[i])
				return
			}
			t.by[i] = min(t.by[i], e)
		case i == len(t.rows):
			t.rows, t.by = append(t.rows, r), append(t.by, e)
			t.heldAbove(who, r, e)
		default:
			t.complain("%v commits row %v in epoch %d, and only %d rows are committed", who, r, e, len(t.rows))
			return
		}
	}
}

// heldAbove checks that no Primary of a higher epoch lacks a row that one of a lower
// epoch commits now.
func (t *truth) heldAbove(who any, r row, e sqllog.Epoch) {
	for _, n := range t.w.nodes {
		if n.proc == nil || n.proc.reign == nil || n.proc.reign.epoch <= e {
			continue
		}
		if k := n.proc.reign; len(k.rows) < int(r.id) || k.rows[r.id-1] != r {
			t.complain("%v commits row %v in epoch %d, and %v, the Primary of %d, lacks it", who, r, e, n.proc, k.epoch)
		}
	}
}

// lead checks a Primary that has written its fence.
func (t *truth) lead(p *process, e sqllog.Epoch, rows []row) {
	for i, r := range t.rows {
		if t.by[i] <= e && (i >= len(rows) || rows[i] != r) {
			t.complain("%v leads epoch %d and lacks row %v, which is committed in %d", p, e, r, t.by[i])
			return
		}
	}
}

// ack notes that a client was told that its row is committed.
func (t *truth) ack(p *process, e sqllog.Epoch, r row) {
	if by := t.ackBy[e]; by != nil && by != p {
		t.complain("%v and %v acknowledge rows in epoch %d", by, p, e)
	}
	if int(r.id) > len(t.rows) || t.rows[r.id-1] != r {
		t.complain("%v acknowledges row %v, which is not committed", p, r)
	}
	t.ackBy[e] = p
	t.acked = max(t.acked, r.id)
	t.stats.Acked++
}

// shown checks what a node shows as committed.
func (t *truth) shown(p *process, from, to sqllog.ID, rows []row) {
	for id := from + 1; id <= to; id++ {
		switch {
		case int(id) > len(rows):
			t.complain("%v shows row %d, and its log ends at %d", p, id, len(rows))
		case int(id) > len(t.rows):
			t.complain("%v shows row %v, which is not committed", p, rows[id-1])
		case rows[id-1] != t.rows[id-1]:
			t.complain("%v shows row %v, and %v is committed", p, rows[id-1], t.rows[id-1])
		default:
			continue
		}
		return
	}
}

// common checks that the point from which a Primary streams is one that both logs
// share with everything before.
func (t *truth) common(p, q *process, id sqllog.ID, a, b []row) {
	if int(id) > len(a) || int(id) > len(b) {
		t.complain("%v names row %d as common with %v, and a log ends before", p, id, q)
		return
	}
	for i := range int(id) {
		if a[i] != b[i] {
			t.complain("%v names row %d as common with %v, and row %v is %v there", p, id, q, a[i], b[i])
			return
		}
	}
}

// readBegins gives what a linearizable read that begins now must show.
func (t *truth) readBegins() sqllog.ID { return max(t.acked, t.read) }

func (t *truth) readEnds(p *process, least, shown sqllog.ID) {
	if shown < least {
		t.complain("a read at %v shows rows up to %d, and %d was known before it began", p, shown, least)
	}
	t.read = max(t.read, shown)
	t.stats.Reads++
}

// add adds counts field by field.
func (s *stats) add(o stats) {
	a, b := reflect.ValueOf(s).Elem(), reflect.ValueOf(o)
	for i := range a.NumField() {
		a.Field(i).SetInt(a.Field(i).Int() + b.Field(i).Int())
	}
}
