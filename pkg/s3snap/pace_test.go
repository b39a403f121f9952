package s3snap

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// paceClock is the time of a pace: it moves when the test says, and during rests.
type paceClock struct {
	at    time.Time
	tick  time.Duration // that every look at the clock takes
	rests []time.Duration
	hook  func() error // called in a rest
}

func (c *paceClock) pace() *pace {
	return &pace{
		now: func() time.Time {
			c.at = c.at.Add(c.tick)
			return c.at
		},
		rest: func(_ context.Context, d time.Duration) error {
			c.rests = append(c.rests, d)
			c.at = c.at.Add(d)
			if c.hook != nil {
				return c.hook()
			}
			return nil
		},
	}
}

func TestPaceRestsInProportion(t *testing.T) {
	clock := &paceClock{at: time.Unix(1, 0)}
	p := clock.pace()
	p.begin()
	for _, c := range []struct {
		work time.Duration
		want []time.Duration
	}{
		{paceStep / 2, nil},
		{paceStep / 2, []time.Duration{paceRest * paceStep}}, // two halves are one step
		{5 * paceStep, []time.Duration{paceRest * 5 * paceStep}},
		{time.Minute, []time.Duration{paceMost}}, // a wait for object storage
	} {
		clock.at, clock.rests = clock.at.Add(c.work), nil
		if err := p.step(t.Context()); err != nil || !slices.Equal(clock.rests, c.want) {
			t.Errorf("after %s of work: rests %v, want %v; %v", c.work, clock.rests, c.want, err)
		}
	}
}

// TestPaceIsBounded has work of five seconds, as a million rows are, end in its
// share of time.
func TestPaceIsBounded(t *testing.T) {
	const work, piece = 5 * time.Second, 300 * time.Microsecond
	clock := &paceClock{at: time.Unix(1, 0)}
	p := clock.pace()
	p.begin()
	began := clock.at
	for done := time.Duration(0); done < work; done += piece {
		clock.at = clock.at.Add(piece)
		if err := p.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if took := clock.at.Sub(began); took > (1+paceRest)*(work+piece) || took < paceRest*work {
		t.Errorf("%s of work took %s", work, took)
	}
}

func TestNoPaceNeverRests(t *testing.T) {
	var p *pace
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.begin()
	if err := p.step(ctx); err != nil {
		t.Error(err)
	}
}

func TestRestEndsWithItsContext(t *testing.T) {
	p := newPace()
	p.now = func() time.Time { return p.began.Add(time.Hour) }
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ErrStopped)
	if err := p.step(ctx); !errors.Is(err, ErrStopped) {
		t.Errorf("%v, want ErrStopped", err)
	}
}

// TestSnapshotRestsBetweenItsSteps writes a row in every rest: none of them holds
// anything that a write needs.
func TestSnapshotRestsBetweenItsSteps(t *testing.T) {
	const rows = 20
	w := newWorld(t)
	n := w.open(w.config(w.disk()))
	n.write(rows)
	clock := &paceClock{at: time.Unix(1, 0), tick: paceStep}
	written, uploaded := 0, 0
	clock.hook = func() error {
		written++
		return n.tryWrite()
	}
	w.store.After = func(op object.Op, _ string) error {
		if op == object.OpUpload {
			uploaded = len(clock.rests)
		}
		return nil
	}
	n.archive.cfg.pace = clock.pace
	if err := (&snapshotKeeper{}).take(n.archive, n.archive.chain.Load()); err != nil {
		t.Fatal(err)
	}
	// The row of the epoch comes with the first write.
	if verified := len(clock.rests) - uploaded; uploaded < rows || verified < rows {
		t.Errorf("%d rests while it was written, %d while it was read back, want one a row", uploaded, verified)
	}
	if all := n.log.Head().ID; int(all) < rows+written {
		t.Errorf("%d rows, want %d", all, rows+written)
	}
}

func TestSnapshotIsInterruptedInARest(t *testing.T) {
	w := newWorld(t)
	n := w.open(w.config(w.disk()))
	n.write(20)
	for _, during := range []int{5, 30} { // the scan, the reading back
		clock := &paceClock{at: time.Unix(1, 0), tick: paceStep}
		clock.hook = func() error {
			if len(clock.rests) == during {
				return ErrStopped
			}
			return nil
		}
		_, err := takeSnapshot(t.Context(), clock.pace(), w.store, n.archive.writer, n.log, n.archive.chain.Load().End)
		if !errors.Is(err, ErrStopped) {
			t.Fatalf("stopped in rest %d: %v, want ErrStopped", during, err)
		}
		if keys := w.keys(snapshotPrefix); len(keys) != 0 || len(clock.rests) != during {
			t.Fatalf("after %d rests there is %v", len(clock.rests), keys)
		}
	}
}
