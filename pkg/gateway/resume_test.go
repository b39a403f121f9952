package gateway

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// follower checks that a client may resume from what header.revision says.
type follower struct {
	t      testing.TB
	writes map[int64]string // revision -> key
	starts map[string]int64 // key -> first revision of a watch that was created
	seen   map[string]bool  // key@revision
}

// take looks at a frame and returns its header's revision.
func (f *follower) take(frame any) int64 {
	result := frame.(map[string]any)["result"].(map[string]any)
	header, _ := result["header"].(map[string]any)["revision"].(json.Number).Int64()
	if result["created"] != nil {
		return 0
	}
	events, _ := result["events"].([]any)
	for _, e := range events {
		kv := e.(map[string]any)["kv"].(map[string]any)
		f.seen[fmt.Sprintf("%v@%v", kv["key"], kv["mod_revision"])] = true
	}
	for revision := int64(2); revision <= header; revision++ {
		key := f.writes[revision]
		if start, watched := f.starts[key]; watched && revision >= start && !f.seen[fmt.Sprintf("%s@%d", b64(key), revision)] {
			f.t.Fatalf("the header says %d, and revision %d of %s has not come", header, revision, key)
		}
	}
	return header
}

// TestHeaderSaysWhereToResume: several watches of one connection, some with a history that is longer than what waits for
// the others.
func TestHeaderSaysWhereToResume(t *testing.T) {
	h := start(t, func(c *Config) { c.mergeBytes = 20000 })
	f := &follower{t: t, writes: make(map[int64]string), starts: make(map[string]int64), seen: make(map[string]bool)}
	keys := []string{"a", "b", "c", "d"}
	value := strings.Repeat("v", 500)
	var last int64
	write := func(n int) {
		for range n {
			key := keys[rand.IntN(len(keys))]
			last = h.put(key, value)
			f.writes[last] = key
		}
	}
	write(150)
	ws := h.dial("/watch")
	for i, from := range []int64{0, 2, last / 2, 0} {
		at := ""
		if from > 0 {
			at = fmt.Sprintf(`,"start_revision":%d`, from)
		}
		f.starts[keys[i]] = from
		if from == 0 {
			f.starts[keys[i]] = last + 1
		}
		ws.send(fmt.Sprintf(`{"create_request":{"key":"‹%s›"%s}}`, keys[i], at))
		for { // what comes before it is created belongs to the others
			frame := ws.next()
			if strings.Contains(encode(frame), `"created":true`) {
				break
			}
			start := f.starts[keys[i]]
			delete(f.starts, keys[i])
			f.take(frame)
			f.starts[keys[i]] = start
		}
		write(30)
	}
	ws.send(`{"progress_request":{}}`)
	for f.take(ws.next()) < last {
	}
	for revision, key := range f.writes {
		if start := f.starts[key]; revision >= start && !f.seen[fmt.Sprintf("%s@%d", b64(key), revision)] {
			t.Errorf("revision %d of %s never came", revision, key)
		}
	}
}
