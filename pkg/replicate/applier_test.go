package replicate

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// applierBed is an applier on an empty index, whose log counts what is read from it.
type applierBed struct {
	*applier
	log    *mvcctest.Log
	scans  int
	noted  sqllog.Head
	voters []string
	scrubs int
	scan   error
}

func (b *applierBed) Scan(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error {
	b.scans++
	if b.scan != nil {
		return b.scan
	}
	return b.log.Scan(ctx, after, upTo, fn)
}

func newApplierBed(t *testing.T) *applierBed {
	b := &applierBed{log: mvcctest.New()}
	store, err := mvcc.Open(ctx, b.log, mvcc.Config{Logger: quiet(), ProgressInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	b.applier = &applier{
		log: b, store: store,
		note:  func(h sqllog.Head) { b.noted = h },
		voted: func(r *sqllog.Row) { b.voters = append(b.voters, string(r.Value)) },
		scrub: func() { b.scrubs++ },
	}
	return b
}

// puts makes rows that put one key each, and appends them.
func (b *applierBed) puts(t *testing.T, first, n int) []sqllog.Row {
	t.Helper()
	rows := make([]sqllog.Row, n)
	for i := range rows {
		id := first + i
		rows[i] = sqllog.Row{
			ID: sqllog.ID(id), Epoch: 1, Revision: sqllog.Revision(id + 1), Kind: sqllog.KindPut, Key: fmt.Append(nil, "key", id),
			Value: []byte("value"), CreateRevision: sqllog.Revision(id + 1), Version: 1, WrittenAt: 1,
		}
	}
	if err := b.log.Append(rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

func (b *applierBed) shows(t *testing.T, what string, id sqllog.ID, scans int) {
	t.Helper()
	if got := b.store.Head().ID; got != id || b.scans != scans {
		t.Errorf("%s: row %d is shown, want %d; %d scans, want %d", what, got, id, b.scans, scans)
	}
	if b.noted.ID != id {
		t.Errorf("%s: row %d is noted as committed", what, b.noted.ID)
	}
	b.reached.mu.Lock()
	defer b.reached.mu.Unlock()
	if b.reached.id != id {
		t.Errorf("%s: row %d is told to be reached", what, b.reached.id)
	}
}

func TestApplierTakesFromMemory(t *testing.T) {
	b := newApplierBed(t)
	b.keep(b.puts(t, 1, 5))
	b.keep(b.puts(t, 6, 5))
	for _, id := range []sqllog.ID{3, 3, 7, 2, 10} {
		want(t, "apply", b.applyTo(ctx, id), nil)
	}
	b.shows(t, "kept rows", 10, 0)
	if b.waiting != nil || b.size != 0 {
		t.Errorf("%d rows of %d bytes still wait", len(b.waiting), b.size)
	}
}

func TestApplierReadsTheLog(t *testing.T) {
	b := newApplierBed(t)
	b.puts(t, 1, applyRows+100)
	want(t, "apply", b.applyTo(ctx, applyRows+50), nil)
	b.shows(t, "rows of the log", applyRows+50, 1)
	b.keep(b.puts(t, applyRows+101, 10)) // a hole before them
	want(t, "apply", b.applyTo(ctx, applyRows+105), nil)
	b.shows(t, "a hole in memory", applyRows+105, 2)
	want(t, "apply", b.applyTo(ctx, applyRows+110), nil)
	b.shows(t, "the rest of what is kept", applyRows+110, 2)

	b.keep(b.puts(t, applyRows+111, 5))
	b.forget()
	want(t, "apply", b.applyTo(ctx, applyRows+115), nil)
	b.shows(t, "what was forgotten", applyRows+115, 3)
}

func TestApplierForgetsWhatIsTooMuch(t *testing.T) {
	b := newApplierBed(t)
	rows := b.puts(t, 1, 3)
	rows[1].Value = make([]byte, maxWaiting) // in memory only
	b.keep(rows)
	if len(b.waiting) != 0 || b.size != 0 {
		t.Errorf("%d rows of %d bytes are kept", len(b.waiting), b.size)
	}
	b.keep(b.puts(t, 4, 2))
	b.keep(b.puts(t, 7-1, 2))
	if len(b.waiting) != 4 {
		t.Errorf("%d rows are kept", len(b.waiting))
	}
	want(t, "apply", b.applyTo(ctx, 7), nil)
	b.shows(t, "both", 7, 1)
}

func TestApplierFails(t *testing.T) {
	b := newApplierBed(t)
	b.puts(t, 1, 3)
	want(t, "rows that the log lacks", b.applyTo(ctx, 5), sqllog.ErrGap)
	if b.store.Head().ID != 3 {
		t.Errorf("row %d is shown", b.store.Head().ID)
	}
	b.scan = errors.New("disk")
	b.puts(t, 4, 1)
	want(t, "a scan that fails", b.applyTo(ctx, 4), b.scan)
	b.scan = nil
	want(t, "later", b.applyTo(ctx, 4), nil)
	b.shows(t, "later", 4, 3)
}

func TestApplierTells(t *testing.T) {
	b := newApplierBed(t)
	rows := b.puts(t, 1, 2)
	more := []sqllog.Row{
		{ID: 3, Epoch: 1, Revision: 3, Kind: sqllog.KindMember, Value: []byte("voters"), WrittenAt: 1},
		{ID: 4, Epoch: 1, Revision: 3, Kind: sqllog.KindCompact, CreateRevision: 3, Value: sqllog.EncodeDeleted(nil), WrittenAt: 1},
	}
	want(t, "append", b.log.Append(more), nil)
	b.keep(append(rows, more...))
	want(t, "apply", b.applyTo(ctx, 2), nil)
	if len(b.voters) != 0 || b.scrubs != 0 {
		t.Error("rows were told of that are not committed")
	}
	want(t, "apply", b.applyTo(ctx, 4), nil)
	if len(b.voters) != 1 || b.voters[0] != "voters" || b.scrubs != 1 {
		t.Errorf("voters %q, %d compactions", b.voters, b.scrubs)
	}
}
