package registers

import (
	"errors"
	"testing"

	"github.com/kinsy/kinsy/test/harness/history"
)

// done is an event of a key's first put.
func done(revision int64, key, value string) history.Event {
	return history.Event{Change: history.Change{Key: key, Value: value}, Revision: revision, Create: revision, Version: 1}
}

// TestJudgeFindsHistoriesThatAreNotLinearizable gives the check of registers a fault each.
func TestJudgeFindsHistoriesThatAreNotLinearizable(t *testing.T) {
	put := observed{request: request{action: putOne, value: "x"}, call: 1, returned: 2, answer: answer{done: true, revision: 2}}
	get := func(call, returned, revision int64, value string, mod int64) observed {
		o := observed{request: request{action: getOne}, call: call, returned: returned, answer: answer{done: true, revision: revision}}
		o.answer.keys[0] = register{value: value, mod: mod}
		return o
	}
	lost := observed{request: request{action: putOne, value: "y"}, call: 3, returned: never, unknown: true}
	buried := lost
	buried.returned = 9
	told := []history.Event{done(2, registerKey(0), "x"), {Change: history.Change{Key: registerKey(0), Value: "y"}, Revision: 3, Create: 2, Version: 2}}
	for name, test := range map[string]struct {
		all     []observed
		alone   bool
		events  []history.Event
		illegal bool
	}{
		"all is well":                         {all: []observed{put, get(3, 4, 2, "x", 2)}, events: told[:1]},
		"a read after writes of other keys":   {all: []observed{put, get(3, 4, 7, "x", 2)}, events: told[:1]},
		"a read beside the write":             {all: []observed{put, get(1, 2, 1, "", 0)}, events: told[:1]},
		"a read that is stale":                {all: []observed{put, get(3, 4, 1, "", 0)}, events: told[:1], illegal: true},
		"a read of another value":             {all: []observed{put, get(3, 4, 2, "z", 2)}, events: told[:1], illegal: true},
		"a read from the future":              {all: []observed{put, get(0, 0, 2, "x", 2)}, events: told[:1], illegal: true},
		"an unanswered write that was":        {all: []observed{put, lost, get(5, 6, 3, "y", 3)}, events: told},
		"an unanswered write that was late":   {all: []observed{put, lost, get(10, 11, 2, "x", 2), get(12, 13, 3, "y", 3)}, events: told},
		"an unanswered write that was not":    {all: []observed{put, lost, get(10, 11, 2, "x", 2)}, events: told[:1]},
		"an unanswered write seen and undone": {all: []observed{put, lost, get(5, 6, 3, "y", 3), get(7, 8, 2, "x", 2)}, events: told, illegal: true},
		"an unanswered write that came after its writer was dead": {
			all: []observed{put, buried, get(10, 11, 2, "x", 2), get(12, 13, 3, "y", 3)}, events: told, illegal: true,
		},
		"writes of others, where there are none":  {all: []observed{put, get(3, 4, 7, "x", 2)}, events: told[:1], alone: true, illegal: true},
		"all revisions, where nobody else writes": {all: []observed{put, lost, get(5, 6, 3, "y", 3)}, events: told, alone: true},
		"a revision left out, where nobody else writes": {
			all: []observed{put, {request: request{action: putOne, value: "y"}, call: 3, returned: 4, answer: answer{done: true, revision: 4}}}, alone: true, illegal: true,
		},
		"a revision twice": {
			all: []observed{put, {request: request{action: putOne, value: "y"}, call: 3, returned: 4, answer: put.answer}}, illegal: true,
		},
	} {
		known, _, _ := settle(test.all, test.events)
		ops, err := inOrder(known)
		if err == nil {
			err = linearizable(ops, test.alone, t.TempDir())
		}
		if (err != nil) != test.illegal || err != nil && !errors.Is(err, ErrNotLinearizable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
