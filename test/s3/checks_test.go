package s3

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

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
