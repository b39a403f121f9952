package registers

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/kinsy/kinsy/test/harness/history"
)

const (
	// checkLimit bounds the search for a sequence.
	checkLimit = 2 * time.Minute
	// judgeWindow is how many operations porcupine gets at a time: its memory grows with the square.
	judgeWindow = 2000
)

// ErrNotLinearizable is wrapped by what Judge finds.
var ErrNotLinearizable = errors.New("history is not linearizable")

// Result counts what Judge has seen: operations whose outcome is known, writes without an answer, and those of them that were
// done.
type Result struct {
	Operations, Unknown, Applied int
	Took                         time.Duration
}

// String says it in a sentence.
func (r Result) String() string {
	return fmt.Sprintf("registers: %d operations, %d writes without an answer of which %d were done: checked in %s",
		r.Operations, r.Unknown, r.Applied, r.Took.Round(time.Millisecond))
}

// Judge gives the unanswered writes of crowds the outcome that the store's history tells, and looks for one sequence of
// operations that explains all answers, revisions included. If there is none it leaves a picture in dir, and the error wraps
// ErrNotLinearizable. events is the history of one store, from before the
// first request of the crowds on; the crowds must have ended. They may have
// worked at different nodes of it.
func Judge(events []history.Event, dir string, crowds ...*Crowd) (Result, error) {
	var all []observed
	alone := len(crowds) > 0
	for _, c := range crowds {
		alone = alone && c.cfg.Alone
		for _, m := range c.members {
			all = append(all, m.history...)
		}
	}
	start := time.Now()
	known, unknown, applied := settle(all, events)
	r := Result{Operations: len(known), Unknown: unknown, Applied: applied}
	ops, err := inOrder(known)
	if err == nil {
		err = linearizable(ops, alone, dir)
	}
	r.Took = time.Since(start)
	return r, err
}

// linearizable asks porcupine, window after window. The operations are in the only order that their answers allow, but for
// reads of one state, and each may begin where it stands in it: see inOrder. So a window begins with the state that the
// one before has left.
func linearizable(ops []porcupine.Operation, alone bool, dir string) error {
	first := registers{revision: 1, alone: alone}
	for window := range slices.Chunk(ops, judgeWindow) {
		model := modelFrom(first)
		if result := porcupine.CheckOperationsTimeout(model, window, checkLimit); result != porcupine.Ok {
			path := filepath.Join(dir, "history.html")
			_, info := porcupine.CheckOperationsVerbose(model, window, checkLimit)
			return errors.Join(fmt.Errorf("%w (%s); see %s", ErrNotLinearizable, result, path), porcupine.VisualizePath(model, info, path))
		}
		for _, o := range window {
			_, first = step(first, o.Input.(request), o.Output.(answer))
		}
	}
	return nil
}

// settle leaves out the unanswered writes that were not done, and gives the others their answer.
func settle(all []observed, events []history.Event) (known []observed, unknown, applied int) {
	done := outcomes(events)
	for _, o := range all {
		if !o.unknown {
			known = append(known, o)
			delete(done, o.effect())
		}
	}
	for _, o := range all {
		if !o.unknown {
			continue
		}
		unknown++
		if rev := done[o.effect()]; rev > 0 {
			applied++
			delete(done, o.effect()) // of two deletes of one value one was done
			o.answer = answer{done: true, revision: rev}
			known = append(known, o)
		}
	}
	return known, unknown, applied
}

// effect is what a write does when its condition holds, as outcomes names it; nothing for a write that was refused.
func (o observed) effect() history.Change {
	switch {
	case !o.writes() || !o.unknown && !o.answer.done:
		return history.Change{}
	case o.action == deleteOne:
		return history.Change{Key: registerKey(o.key), Value: fmt.Sprint(o.seen), Deleted: true}
	}
	return history.Change{Key: registerKey(o.key), Value: o.value}
}

// outcomes finds the revision of each put, which its value names, and of each delete, named by the revision that it deleted.
func outcomes(events []history.Event) map[history.Change]int64 {
	done := map[history.Change]int64{}
	last := map[string]int64{}
	for _, e := range events {
		if !strings.HasPrefix(e.Key, Prefix) {
			continue
		}
		c := e.Change
		if e.Deleted {
			c.Value = fmt.Sprint(last[e.Key])
		}
		done[c] = e.Revision
		last[e.Key] = e.Revision
	}
	return done
}

// order says which of two operations must come first in any sequence: the revisions of their answers tell, and the write
// of a revision comes before the reads of it. Reads of one revision may come in any order, so also in that of their calls.
func order(a, b observed) int {
	first := func(o observed) int64 {
		if o.writes() && o.answer.done {
			return 2 * o.answer.revision
		}
		return 2*o.answer.revision + 1
	}
	return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(a.call, b.call))
}

// inOrder makes the operations for the checker. An operation takes effect after all that must come before it have begun,
// so its call may be moved there: no sequence is lost by it, and the checker, which tries operations in the order of their
// calls, need not search. An operation that had its answer before that contradicts the order of time.
func inOrder(known []observed) ([]porcupine.Operation, error) {
	slices.SortStableFunc(known, order)
	scale := int64(len(known) + 1) // room for distinct times between two nanoseconds
	ops := make([]porcupine.Operation, len(known))
	var latest int64
	var by observed
	for i, o := range known {
		if call := o.call * scale; call > latest {
			latest, by = call, o
		}
		latest++
		if latest > (o.returned+1)*scale {
			return nil, fmt.Errorf("%w: %v was answered with revision %d after %v had been answered with revision %d: %s apart",
				ErrNotLinearizable, by.request, by.answer.revision, o.request, o.answer.revision, time.Duration(by.call-o.returned))
		}
		ops[i] = porcupine.Operation{ClientId: o.client, Input: o.request, Call: latest, Output: o.answer, Return: (o.returned + 1) * scale}
	}
	return ops, nil
}
