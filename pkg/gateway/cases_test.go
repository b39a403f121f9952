package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// recorded is one exchange with AntiEtcd 1.3.1.
type recorded struct {
	Seq      int                `json:"seq"`
	Name     string             `json:"name"`
	Method   string             `json:"method"`
	Path     string             `json:"path"`
	Body     json.RawMessage    `json:"body"`
	Status   int                `json:"status"`
	Response json.RawMessage    `json:"response"`
	Type     string             `json:"content_type"`
	Headers  map[string]*string `json:"headers"`
}

// more is what kinsy answers beyond AntiEtcd: fields that change the result work.
var more = map[string]string{"put-prev-kv-ignored": "prev_kv", "delete-prev-kv-ignored": "prev_kvs"}

// revisions relates AntiEtcd's revisions to kinsy's: the same order, other numbers.
type revisions struct{ known map[int64]int64 }

// actual is a revision of a recorded request as the server under test has it. One that
// has not been is as far ahead as it was.
func (r *revisions) actual(recorded int64) int64 {
	if n, ok := r.known[recorded]; ok {
		return n
	}
	last := slices.Max(slices.Collect(maps.Keys(r.known)))
	return r.known[last] + recorded - last
}

// same reports whether two revisions stand at one place of the order.
func (r *revisions) same(recorded, actual int64) bool {
	if n, ok := r.known[recorded]; ok {
		return n == actual
	}
	for other, n := range r.known {
		if (other < recorded) != (n < actual) {
			return false
		}
	}
	r.known[recorded] = actual
	return true
}

func isRevision(name string) bool {
	return name == "revision" || name == "mod_revision" || name == "create_revision"
}

// translate replaces the revisions of a request.
func (r *revisions) translate(body any) any {
	walk(body, func(m map[string]any) {
		for name, v := range m {
			if !isRevision(name) {
				continue
			}
			text, isText := v.(string)
			if n, ok := v.(json.Number); ok {
				text = n.String()
			}
			recorded, err := json.Number(text).Int64()
			if err != nil {
				continue
			}
			m[name] = r.actual(recorded)
			if isText {
				m[name] = encode(r.actual(recorded))
			}
		}
	})
	return body
}

// match compares an answer with a recorded one.
func (r *revisions) match(t *testing.T, at string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		m, _ := got.(map[string]any)
		for name := range m {
			if _, there := want[name]; !there {
				t.Errorf("%s has %s", at, name)
			}
		}
		for name, v := range want {
			if m[name] == nil {
				t.Errorf("%s lacks %s", at, name)
				continue
			}
			r.matchField(t, at+"."+name, name, v, m[name])
		}
	case []any:
		list, _ := got.([]any)
		if len(list) != len(want) || list == nil {
			t.Errorf("%s is %s", at, encode(got))
			return
		}
		for i := range want {
			r.match(t, at, want[i], list[i])
		}
	default:
		if encode(want) != encode(got) {
			t.Errorf("%s is %s, want %s", at, encode(got), encode(want))
		}
	}
}

func (r *revisions) matchField(t *testing.T, at, name string, want, got any) {
	t.Helper()
	switch {
	case isRevision(name):
		w, _ := want.(json.Number).Int64()
		n, ok := got.(json.Number)
		if !ok {
			t.Errorf("%s is no number: %s", at, encode(got))
			return
		}
		if a, _ := n.Int64(); !r.same(w, a) {
			t.Errorf("%s is %d for AntiEtcd's %d, others are %v", at, a, w, r.known)
		}
	case name == "version":
		if text, ok := got.(string); !ok || !strings.HasPrefix(text, "kinsy ") {
			t.Errorf("%s is %s", at, encode(got))
		}
	case encode(want) == `"*"`:
		if _, ok := got.(json.Number); !ok {
			t.Errorf("%s is %s", at, encode(got))
		}
	default:
		r.match(t, at, want, got)
	}
}

// TestAntiEtcdCases replays what AntiEtcd was asked and wants the same status and the
// same answer, revisions by order.
func TestAntiEtcdCases(t *testing.T) {
	file, err := os.ReadFile("testdata/antietcd-cases.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	h := start(t)
	r := &revisions{known: make(map[int64]int64)}
	lines := bufio.NewScanner(bytes.NewReader(file))
	n := 0
	for ; lines.Scan(); n++ {
		var c recorded
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		t.Run(c.Name, func(t *testing.T) { h.replay(t, r, c) })
	}
	if n < 55 {
		t.Errorf("only %d cases", n)
	}
}

func (h *harness) replay(t *testing.T, r *revisions, c recorded) {
	var body string
	if raw, ok := decode(t, string(c.Body)).(string); ok {
		body = raw
	} else if string(c.Body) != "null" {
		body = encode(r.translate(decode(t, string(c.Body))))
	}
	kind := "application/json"
	if given, there := c.Headers["Content-Type"]; there {
		kind = ""
		if given != nil {
			kind = *given
		}
	}
	code, got := h.request(c.Method, c.Path, kind, body)
	if code != c.Status {
		t.Fatalf("status %d, want %d: %s", code, c.Status, got)
	}
	want := decode(t, string(c.Response))
	if text, ok := want.(string); ok {
		if got != text {
			t.Errorf("got %q, want %q", got, text)
		}
		return
	}
	answer := decode(t, got)
	if extra := more[c.Name]; extra != "" {
		m := answer.(map[string]any)
		if m[extra] == nil {
			t.Errorf("lacks %s: %s", extra, got)
		}
		delete(m, extra)
	}
	if c.Status != http.StatusOK {
		t.Fatalf("an error with JSON: %s", c.Response)
	}
	r.match(t, "answer", want, answer)
}
