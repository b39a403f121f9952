package s3

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// done is an event of a key's first put.
func done(revision int64, key, value string) event {
	return event{change: change{key: key, value: value}, revision: revision, create: revision, version: 1}
}

func asked(revision int64, changes ...change) *write {
	return &write{revision: revision, changes: changes}
}

// TestLedgerFindsWhatAStoreMustNotDo gives the check of histories a fault each.
func TestLedgerFindsWhatAStoreMustNotDo(t *testing.T) {
	a, b, c := change{key: "a", value: "1"}, change{key: "b", value: "2"}, change{key: "c", value: "3"}
	for name, test := range map[string]struct {
		history []event
		writes  []*write
		sights  []sight
		newest  int64
		want    string // empty: nothing is wrong
	}{
		"all is well": {
			history: []event{done(2, "a", "1"), done(3, "b", "2"), done(3, "c", "3"), done(4, registerPrefix+"1", "x")},
			writes:  []*write{asked(2, a), asked(0, b, c), asked(0, change{key: "d", deleted: true})},
			sights:  []sight{{"b", "2", 3}}, newest: 3,
		},
		"a lost write":                {writes: []*write{asked(2, a)}, history: []event{done(2, "b", "2")}, want: "nobody asked"},
		"a lost write at the end":     {writes: []*write{asked(2, a), asked(3, b)}, history: []event{done(2, "a", "1")}, newest: 3, want: "clients were told"},
		"a write at another revision": {writes: []*write{asked(2, b), asked(3, a)}, history: []event{done(2, "a", "1"), done(3, "b", "2")}, want: "acknowledged at revision"},
		"a write twice":               {writes: []*write{asked(0, a)}, history: []event{done(2, "a", "1"), done(3, "a", "1")}, want: "again"},
		"half a write":                {writes: []*write{asked(0, a, b)}, history: []event{done(2, "a", "1")}, want: "1 of 2 changes"},
		"a write of nobody":           {history: []event{done(2, "a", "1")}, want: "nobody asked"},
		"a revision left out":         {writes: []*write{asked(3, a)}, history: []event{done(3, "a", "1")}, want: "follows"},
		"a read of nothing": {
			writes: []*write{asked(2, a)}, history: []event{done(2, "a", "1")}, sights: []sight{{"a", "other", 2}}, want: "not in the history",
		},
	} {
		l := &ledger{base: 1, writes: test.writes, sights: test.sights, newest: test.newest}
		_, err := l.check(test.history, test.history[len(test.history)-1].revision)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// TestFollowerFindsWhatAWatchMustNotDo gives a follower responses that break a promise.
func TestFollowerFindsWhatAWatchMustNotDo(t *testing.T) {
	ev := func(rev int64) *clientv3.Event {
		return &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte("a"), ModRevision: rev}}
	}
	for name, test := range map[string]struct {
		first, second []*clientv3.Event
		progress      int64
		fault         bool
	}{
		"in order":                     {first: []*clientv3.Event{ev(2), ev(2), ev(3)}, second: []*clientv3.Event{ev(5)}},
		"repeated":                     {first: []*clientv3.Event{ev(2)}, second: []*clientv3.Event{ev(2)}, fault: true},
		"out of order":                 {first: []*clientv3.Event{ev(3), ev(2)}, fault: true},
		"a revision in two responses":  {first: []*clientv3.Event{ev(2), ev(3)}, second: []*clientv3.Event{ev(3), ev(4)}, fault: true},
		"newer than the response":      {first: []*clientv3.Event{ev(11)}, fault: true},
		"older than promised progress": {first: []*clientv3.Event{ev(2)}, progress: 4, second: []*clientv3.Event{ev(3)}, fault: true},
	} {
		f := newFollower(1)
		err := f.add(test.first, 10)
		f.progress(test.progress)
		if err == nil {
			err = f.add(test.second, 10)
		}
		if (err != nil) != test.fault {
			t.Errorf("%s: %v", name, err)
		}
	}
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
	history := []event{done(2, registerKey(0), "x"), {change: change{key: registerKey(0), value: "y"}, revision: 3, create: 2, version: 2}}
	for name, test := range map[string]struct {
		all     []observed
		events  []event
		illegal bool
	}{
		"all is well":                         {all: []observed{put, get(3, 4, 2, "x", 2)}, events: history[:1]},
		"a read after writes of other keys":   {all: []observed{put, get(3, 4, 7, "x", 2)}, events: history[:1]},
		"a read beside the write":             {all: []observed{put, get(1, 2, 1, "", 0)}, events: history[:1]},
		"a read that is stale":                {all: []observed{put, get(3, 4, 1, "", 0)}, events: history[:1], illegal: true},
		"a read of another value":             {all: []observed{put, get(3, 4, 2, "z", 2)}, events: history[:1], illegal: true},
		"a read from the future":              {all: []observed{put, get(0, 0, 2, "x", 2)}, events: history[:1], illegal: true},
		"an unanswered write that was":        {all: []observed{put, lost, get(5, 6, 3, "y", 3)}, events: history},
		"an unanswered write that was late":   {all: []observed{put, lost, get(10, 11, 2, "x", 2), get(12, 13, 3, "y", 3)}, events: history},
		"an unanswered write that was not":    {all: []observed{put, lost, get(10, 11, 2, "x", 2)}, events: history[:1]},
		"an unanswered write seen and undone": {all: []observed{put, lost, get(5, 6, 3, "y", 3), get(7, 8, 2, "x", 2)}, events: history, illegal: true},
		"a revision twice": {
			all: []observed{put, {request: request{action: putOne, value: "y"}, call: 3, returned: 4, answer: put.answer}}, illegal: true,
		},
	} {
		known, _, _ := settle(test.all, test.events)
		ops, err := inOrder(known)
		if err == nil {
			err = linearizable(ops, t.TempDir())
		}
		if (err != nil) != test.illegal || err != nil && !errors.Is(err, errNotLinearizable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTruthFindsLies gives the check of /readyz answers that are not true.
func TestTruthFindsLies(t *testing.T) {
	start := time.Now()
	for name, test := range map[string]struct {
		calm  bool
		code  int
		ack   time.Duration // the last one
		times []time.Duration
		lies  bool
	}{
		"serving":                       {calm: true, code: http.StatusOK, ack: 9 * time.Second, times: []time.Duration{10 * time.Second}},
		"not serving, and right":        {code: http.StatusServiceUnavailable, times: []time.Duration{time.Second, 20 * time.Second}},
		"not serving, and wrong":        {calm: true, code: http.StatusServiceUnavailable, ack: 9 * time.Second, times: []time.Duration{10 * time.Second}, lies: true},
		"serving, and wrong":            {code: http.StatusOK, ack: time.Second, times: []time.Duration{8 * time.Second, 10 * time.Second}, lies: true},
		"serving a moment too early":    {code: http.StatusOK, ack: time.Second, times: []time.Duration{8 * time.Second, 8500 * time.Millisecond}},
		"serving, and no write so far":  {code: http.StatusOK, times: []time.Duration{3 * time.Second}},
		"serving, and never any writes": {code: http.StatusOK, times: []time.Duration{10 * time.Second, 12 * time.Second}, lies: true},
	} {
		v := &truth{calm: test.calm, since: start, lastAck: func() time.Time { return start.Add(test.ack) }}
		for _, at := range test.times {
			v.judge(start.Add(at), test.code, "", nil)
		}
		if err := v.lies(); (err != nil) != test.lies {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChainCheckFindsGaps gives the check of the chain chunks that do not follow each other.
func TestChainCheckFindsGaps(t *testing.T) {
	chunk := func(first, last sqllog.ID, before, epoch sqllog.Epoch, revision int64) rowfile.Header {
		return rowfile.Header{First: first, Before: before, Head: sqllog.Head{ID: last, Epoch: epoch, Revision: sqllog.Revision(revision)}}
	}
	first := chunk(1, 5, 0, 1, 4)
	for name, test := range map[string]struct {
		next rowfile.Header
		want string // empty: nothing is wrong
	}{
		"the next":            {next: chunk(6, 7, 1, 2, 5)},
		"a gap":               {next: chunk(7, 7, 1, 2, 5), want: "follows row"},
		"rows twice":          {next: chunk(5, 7, 1, 2, 5), want: "follows row"},
		"another history":     {next: chunk(6, 7, 2, 2, 5), want: "by its own word"},
		"an older epoch":      {next: chunk(6, 7, 1, 0, 5), want: "ends with"},
		"an earlier revision": {next: chunk(6, 7, 1, 1, 3), want: "ends with"},
	} {
		var c chain
		ok(t, c.add("chunks/00000000000000000001", first, 5))
		err := c.add(fmt.Sprintf("chunks/%020d", test.next.First), test.next, 1)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	var c chain
	if err := c.add("chunks/00000000000000000002", first, 5); err == nil {
		t.Error("a chunk under another name is accepted")
	}
}
