package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// inJSON writes a source and reads it again.
func inJSON(t testing.TB, m *memory, history bool) (text string, got *memory, s Summary) {
	t.Helper()
	var b bytes.Buffer
	wrote, err := WriteJSON(context.Background(), &b, m, JSONOptions{History: history})
	ok(t, err)
	got = &memory{}
	text = b.String()
	s, err = ReadJSON(context.Background(), &b, got)
	ok(t, err)
	if wrote.Keys != s.Keys || wrote.Changes != s.Changes || wrote.Leases != s.Leases ||
		wrote.Revision != s.Revision || wrote.CompactRevision != s.CompactRevision {
		t.Fatalf("wrote %+v, read %+v", wrote, s)
	}
	return text, got, s
}

func TestJSONRoundTrip(t *testing.T) {
	for seed, compact := range compactions {
		m := random(t, uint64(seed), 60, compact)
		_, got, _ := inJSON(t, m, true)
		wantHistory(t, got, m)

		// What exists is what a compaction to the head leaves, but for its deletes.
		now := &memory{rows: m.rows, head: m.head, compaction: sqllog.Compaction{Revision: m.head.Revision}}
		_, got, s := inJSON(t, m, false)
		wantHistory(t, got, now)
		if s.CompactRevision != m.head.Revision || s.Keys != s.Changes {
			t.Fatalf("%+v", s)
		}
	}
}

// golden is a history with all that lines can have.
func golden() *memory {
	change := func(id sqllog.ID, rev sqllog.Revision, sub int64, key, value string) sqllog.Row {
		return sqllog.Row{ID: id, Epoch: 1, Revision: rev, Sub: sub, Kind: sqllog.KindPut, Key: []byte(key), Value: []byte(value),
			CreateRevision: rev, Version: 1}
	}
	lease := sqllog.Row{ID: 1, Epoch: 1, Revision: 1, Kind: sqllog.KindLease, Lease: 0x694d77aa9e2c2701, Version: 60}
	gone := sqllog.Row{ID: 2, Epoch: 1, Revision: 1, Kind: sqllog.KindLease, Lease: 5, Version: 60}
	end := sqllog.Row{ID: 9, Epoch: 2, Revision: 6, Kind: sqllog.KindLease, Lease: 5}
	leased := change(3, 3, 0, "a", "é\"\\\n\x00\u2028</")
	leased.CreateRevision, leased.Version, leased.Lease = 2, 2, lease.Lease
	return &memory{
		head:       sqllog.Head{ID: 9, Epoch: 2, Revision: 6},
		compaction: sqllog.Compaction{Revision: 4, Deleted: []sqllog.DeletedKey{{Sub: 1, Key: []byte("old")}}},
		rows: []sqllog.Row{
			lease, gone, leased,
			change(4, 4, 0, "\xff\x00", "\xfe"), change(6, 5, 0, "b", ""), change(7, 5, 1, "c", "1"),
			{ID: 8, Epoch: 2, Revision: 6, Kind: sqllog.KindDelete, Key: []byte("c"), PrevRevision: 5}, end,
		},
	}
}

const (
	goldenHistory = `{"format":"kinsy-json-1","revision":6,"compact_revision":4,"history":true,"lines":7}
{"lease":"694d77aa9e2c2701","ttl":60}
{"key":"a","value":"é\"\\\n\u0000` + "\u2028" + `</","create_revision":2,"mod_revision":3,"version":2,"lease":"694d77aa9e2c2701"}
{"key_base64":"/wA=","value_base64":"/g==","create_revision":4,"mod_revision":4,"version":1}
{"key":"old","deleted":true,"mod_revision":4,"sub":1}
{"key":"b","value":"","create_revision":5,"mod_revision":5,"version":1}
{"key":"c","value":"1","create_revision":5,"mod_revision":5,"sub":1,"version":1}
{"key":"c","deleted":true,"mod_revision":6}
`
	goldenKeys = `{"format":"kinsy-json-1","revision":6,"compact_revision":6,"history":false,"lines":4}
{"lease":"694d77aa9e2c2701","ttl":60}
{"key":"a","value":"é\"\\\n\u0000` + "\u2028" + `</","create_revision":2,"mod_revision":3,"version":2,"lease":"694d77aa9e2c2701"}
{"key_base64":"/wA=","value_base64":"/g==","create_revision":4,"mod_revision":4,"version":1}
{"key":"b","value":"","create_revision":5,"mod_revision":5,"version":1}
`
)

func TestJSONFormat(t *testing.T) {
	for history, want := range map[bool]string{true: goldenHistory, false: goldenKeys} {
		text, got, s := inJSON(t, golden(), history)
		if text != want {
			t.Errorf("history %v: got\n%s\nwant\n%s", history, text, want)
		}
		if s.Keys != 3 || s.Leases != 1 {
			t.Errorf("history %v: %+v", history, s)
		}
		if again, _, _ := inJSON(t, got, history); again != want {
			t.Errorf("history %v, once more: got\n%s", history, again)
		}
	}
}

// By hand: blanks, other escapes, other order of fields, no last newline.
func TestJSONByHand(t *testing.T) {
	text := "  { \"revision\" : 4 , \"compact_revision\":4,\"format\":\"kinsy-json-1\" } \r\n" +
		`{"mod_revision":3,"version":1,"create_revision":3,"value":"\u0061\ud83d\ude00\/\b\f\r\t","key_base64":"YQ==","deleted":false}`
	m := &memory{}
	s, err := ReadJSON(context.Background(), strings.NewReader(text), m)
	ok(t, err)
	if len(m.rows) != 1 || string(m.rows[0].Value) != "a😀/\b\f\r\t" || string(m.rows[0].Key) != "a" || s.Revision != 4 {
		t.Fatalf("%+v, %+v", s, m.rows)
	}
}

func TestJSONIsStrict(t *testing.T) {
	const (
		header = `{"format":"kinsy-json-1","revision":9,"compact_revision":2,"history":true}` + "\n"
		put    = `{"key":"a","value":"","create_revision":3,"mod_revision":3,"version":1}` + "\n"
	)
	for text, want := range map[string]string{
		"":                          "line 0: not a file",
		"\n":                        "line 1: not a file",
		"hello":                     "line 1: not a file",
		`{"format":"other"}`:        `line 1: not a file of this format: format "other"`,
		`{"format":1}`:              "line 1: not a file",
		`{"format":"kinsy-json-2"}`: "line 1: written in a newer format",
		`{"format":"kinsy-json-1"}`: `line 1: data is damaged: field "revision" is needed`,
		header[:len(header)-2]:      "line 1: not a file",
		header + header:             `line 2: data is damaged: one of the fields "key"`,
		header + put + put:          "line 3: data is damaged: revision 3, position 0, comes after",
		header + put + `{"lease":"0000000000000001","ttl":5}`:                       "line 3: data is damaged: a lease comes after",
		header + put + "\n" + put:                                                   "line 3: data is damaged: no object",
		header + put[:20]:                                                           "line 2: data is damaged",
		header + put[:len(put)-1] + "x":                                             "line 2: data is damaged: 1 bytes follow",
		header + `{"lease":"1","ttl":5}`:                                            "line 2: data is damaged: lease \"1\"",
		header + `{"lease":"0000000000000000","ttl":5}`:                             "16 hexadecimal",
		header + `{"lease":"0000000000000001","ttl":0}`:                             `field "ttl" is 0`,
		header + `{"ttl":5}`:                                                        "TTL of 5 s",
		header + strings.Repeat(`{"lease":"0000000000000001","ttl":5}`+"\n", 2):     "line 3: data is damaged: lease 0000000000000001 is there twice",
		strings.Replace(header, `"compact_revision":2`, `"compact_revision":10`, 1): "above revision 9",
		strings.Replace(header, `,"history":true`, "", 1):                           "without history",
		strings.Replace(header, `true`, `true,"lines":3`, 1) + put:                  "should have 3 lines",
		strings.Replace(header, `true`, `true,"lines":0`, 1) + put:                  "should have 0 lines",
		strings.Replace(header, `true`, `"yes"`, 1):                                 `"history" has a value of another type`,
		strings.Replace(header, `9`, `9.5`, 1):                                      "not a file",
		header + strings.Replace(put, `"key"`, `"Key"`, 1):                          `"key"`,
		header + strings.Replace(put, `"value"`, `"values"`, 1):                     `"value"`,
		header + strings.Replace(put, `{`, `{"x":1,`, 1):                            `"x" is unknown`,
		header + strings.Replace(put, `{`, `{"key":"b",`, 1):                        `"key" is there twice`,
		header + strings.Replace(put, `{`, `{"key_base64":"YQ==",`, 1):              "one of the fields",
		header + strings.Replace(put, `"key":"a"`, `"key":""`, 1):                   "has no key",
		header + strings.Replace(put, `"key":"a"`, `"key_base64":"YQ"`, 1):          "no base64",
		header + strings.Replace(put, `"key":"a"`, `"key_base64":"YR=="`, 1):        "no base64",
		header + strings.Replace(put, `"key":"a"`, `"key_base64":"Y\nQ=="`, 1):      "no base64",
		header + strings.Replace(put, `"a"`, "\"\xff\"", 1):                         "not UTF-8",
		header + strings.Replace(put, `"a"`, `"\ud800"`, 1):                         "no character",
		header + strings.Replace(put, `"a"`, `"\ud800\u0041"`, 1):                   "no character",
		header + strings.Replace(put, `"a"`, `"\udc00"`, 1):                         "no character",
		header + strings.Replace(put, `"a"`, `"\x"`, 1):                             "no character",
		header + strings.Replace(put, `"a"`, "\"\t\"", 1):                           "control character",
		header + strings.Replace(put, `"a"`, `7`, 1):                                "another type",
		header + strings.Replace(put, `"a"`, `null`, 1):                             "no string, integer or boolean",
		header + strings.Replace(put, `"a"`, `["a"]`, 1):                            "no string, integer or boolean",
		header + strings.Replace(put, `,`, ` `, 1):                                  "no comma",
		header + strings.Replace(put, `:`, ` `, 1):                                  "no colon",
		header + strings.Replace(put, `3`, `03`, 1):                                 "no string, integer or boolean",
		header + strings.Replace(put, `3`, `3e0`, 1):                                "no comma",
		header + strings.Replace(put, `3`, `99999999999999999999`, 1):               "no string, integer or boolean",
		header + strings.Replace(put, `3`, `9223372036854775807`, 1):                `"create_revision" is`,
		header + strings.Replace(put, `3`, `-3`, 1):                                 `"create_revision" is -3`,
		header + strings.Replace(put, `3`, `4`, 1):                                  "create revision 4",
		header + strings.ReplaceAll(put, `3`, `10`):                                 "above 9",
		header + strings.ReplaceAll(put, `3`, `1`):                                  "revision 1",
		header + strings.Replace(put, `"version":1`, `"deleted":true`, 1):           "unknown or does not belong",
		header + strings.Replace(put, `,"version":1`, ``, 1):                        "version 0",
	} {
		m := &memory{}
		_, err := ReadJSON(context.Background(), strings.NewReader(text), m)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrNewer) {
			t.Errorf("%q: %v has no sentinel", text, err)
		}
		if m.finished {
			t.Errorf("%q: the sink was finished", text)
		}
	}
}

func TestJSONLineLimit(t *testing.T) {
	text, _, _ := inJSON(t, random(t, 3, 50, 0), true)
	longest := 0
	for line := range strings.Lines(text) {
		longest = max(longest, len(line))
	}
	for limit, fits := range map[int]bool{longest: true, longest - 1: false} {
		_, err := readJSON(context.Background(), strings.NewReader(text), &memory{}, limit)
		if (err == nil) != fits || err != nil && !strings.Contains(err.Error(), "longer than") {
			t.Errorf("limit %d of %d: %v", limit, longest, err)
		}
	}
}

// A file cut anywhere is refused, but for its last newline.
func TestCutJSONIsRefused(t *testing.T) {
	text := goldenHistory
	for n := range len(text) - 1 {
		if _, err := ReadJSON(context.Background(), strings.NewReader(text[:n]), &memory{}); err == nil {
			t.Fatalf("cut at byte %d: %q", n, text[:n])
		}
	}
}

// failing is a reader or writer that fails after n bytes.
type failing struct {
	n int
	r io.Reader
}

var errFailing = errors.New("failing")

func (f *failing) Write(b []byte) (int, error) {
	if f.n -= len(b); f.n < 0 {
		return 0, errFailing
	}
	return len(b), nil
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if errors.Is(err, io.EOF) {
		err = errFailing
	}
	return n, err
}

func TestJSONPassesErrorsOn(t *testing.T) {
	m := random(t, 1, 60, 5)
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := WriteJSON(ctx, &failing{n: 10}, m, JSONOptions{}); !errors.Is(err, errFailing) {
		t.Error(err)
	}
	if _, err := ReadJSON(ctx, &failing{r: strings.NewReader(goldenHistory)}, &memory{}); !errors.Is(err, errFailing) {
		t.Error(err)
	}
	if _, err := ReadJSON(ctx, strings.NewReader(goldenHistory), &memory{fail: errOrder}); !errors.Is(err, errOrder) {
		t.Error(err)
	}
	cancel()
	if _, err := WriteJSON(ctx, io.Discard, m, JSONOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := ReadJSON(ctx, strings.NewReader(goldenHistory), &memory{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzReadJSON(f *testing.F) {
	f.Add([]byte(goldenHistory))
	f.Add([]byte(goldenKeys))
	f.Add([]byte(`{"format":"kinsy-json-1","revision":9,"compact_revision":2,"history":true}` + "\n" + `{"key":"\ud83d\ude00"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &memory{}
		_, err := ReadJSON(context.Background(), bytes.NewReader(b), m)
		if m.finished != (err == nil) {
			t.Fatal("finished in spite of an error")
		}
		if err != nil {
			return
		}
		text, _, _ := inJSON(t, m, true)
		_, again, _ := inJSON(t, m, true)
		if other, _, _ := inJSON(t, again, true); other != text {
			t.Fatalf("not the same a second time:\n%s\n%s", text, other)
		}
	})
}

func BenchmarkWriteJSON(b *testing.B) {
	m := big(b)
	for b.Loop() {
		must(WriteJSON(context.Background(), io.Discard, m, JSONOptions{}))
	}
	b.ReportMetric(float64(len(m.rows)*b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkReadJSON(b *testing.B) {
	m := big(b)
	var text bytes.Buffer
	must(WriteJSON(context.Background(), &text, m, JSONOptions{}))
	for b.Loop() {
		must(ReadJSON(context.Background(), bytes.NewReader(text.Bytes()), discard{}))
	}
	b.ReportMetric(float64(len(m.rows)*b.N)/b.Elapsed().Seconds(), "rows/s")
}

func ExampleWriteJSON() {
	var b strings.Builder
	if _, err := WriteJSON(context.Background(), &b, golden(), JSONOptions{}); err != nil {
		fmt.Println(err)
	}
	fmt.Println(strings.SplitN(b.String(), "\n", 3)[1])
	// Output: {"lease":"694d77aa9e2c2701","ttl":60}
}
