package s3

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// checkLimit bounds the search for a sequence.
	checkLimit = 2 * time.Minute
	// judgeWindow is how many operations porcupine gets at a time: its memory grows with the square.
	judgeWindow = 2000
)

var errNotLinearizable = errors.New("history is not linearizable")

// judge gives the unanswered writes the outcome that the history tells, and checks the whole.
func judge(t *testing.T, clients []*registerClient, events []event) {
	t.Helper()
	var all []observed
	for _, c := range clients {
		all = append(all, c.history...)
	}
	known, unknown, applied := settle(all, events)
	ops, err := inOrder(known)
	ok(t, err)
	start := time.Now()
	err = linearizable(ops, t.ArtifactDir())
	t.Logf("registers: %d operations, %d writes without an answer of which %d were done: checked in %s", len(ops), unknown, applied,
		time.Since(start).Round(time.Millisecond))
	if err != nil {
		t.Fatalf("seed %d: %v", *flagSeed, err)
	}
}

// linearizable asks porcupine, window after window. The operations are in the only order that their answers allow, but for
// reads of one state, and each may begin where it stands in it: see inOrder. So a window begins with the state that the
// one before has left.
func linearizable(ops []porcupine.Operation, dir string) error {
	first := registers{revision: 1}
	for window := range slices.Chunk(ops, judgeWindow) {
		model := modelFrom(first)
		if result := porcupine.CheckOperationsTimeout(model, window, checkLimit); result != porcupine.Ok {
			path := filepath.Join(dir, "history.html")
			_, info := porcupine.CheckOperationsVerbose(model, window, checkLimit)
			return errors.Join(fmt.Errorf("%w (%s); see %s", errNotLinearizable, result, path), porcupine.VisualizePath(model, info, path))
		}
		for _, o := range window {
			_, first = step(first, o.Input.(request), o.Output.(answer))
		}
	}
	return nil
}

// settle leaves out the unanswered writes that were not done, and gives the others their answer.
func settle(all []observed, events []event) (known []observed, unknown, applied int) {
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
func (o observed) effect() change {
	switch {
	case !o.writes() || !o.unknown && !o.answer.done:
		return change{}
	case o.action == deleteOne:
		return change{key: registerKey(o.key), value: fmt.Sprint(o.seen), deleted: true}
	}
	return change{key: registerKey(o.key), value: o.value}
}

// outcomes finds the revision of each put, which its value names, and of each delete, named by the revision that it deleted.
func outcomes(events []event) map[change]int64 {
	done := map[change]int64{}
	last := map[string]int64{}
	for _, e := range events {
		if !strings.HasPrefix(e.key, registerPrefix) {
			continue
		}
		c := e.change
		if e.deleted {
			c.value = fmt.Sprint(last[e.key])
		}
		done[c] = e.revision
		last[e.key] = e.revision
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
				errNotLinearizable, by.request, by.answer.revision, o.request, o.answer.revision, time.Duration(by.call-o.returned))
		}
		ops[i] = porcupine.Operation{ClientId: o.client, Input: o.request, Call: latest, Output: o.answer, Return: (o.returned + 1) * scale}
	}
	return ops, nil
}
