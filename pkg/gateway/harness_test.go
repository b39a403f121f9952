package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/replicate"
	"github.com/kinsy/kinsy/pkg/server"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// limit bounds everything a test waits for; it is far above what is expected.
const limit = 20 * time.Second

// harness is a gateway over a real engine, served by HTTP.
type harness struct {
	*Gateway
	t       testing.TB
	primary *replicate.Primary
	store   *mvcc.Store
	http    *httptest.Server
	client  *http.Client
}

func quiet() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// start serves a fresh store until the test ends; change may alter the configuration.
func start(t testing.TB, change ...func(*Config)) *harness {
	t.Helper()
	log, err := sqllog.Open(t.Context(), sqllog.Config{Path: filepath.Join(t.TempDir(), "log.db"), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	store, err := mvcc.Open(t.Context(), log, mvcc.Config{Logger: quiet(), ProgressInterval: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	primary := replicate.New(log, store, replicate.Config{Logger: quiet()})
	cfg := Config{
		KV: primary, Lessor: primary, Admin: primary, Watcher: server.StoreWatcher(store),
		CompactRevision: store.CompactRevision, MemberID: 1, Version: "1.2.3", Logger: quiet(),
	}
	for _, f := range change {
		f(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	h := &harness{Gateway: New(cfg), t: t, primary: primary, store: store, client: &http.Client{Transport: &http.Transport{}, Timeout: limit}}
	h.http = httptest.NewServer(h)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		h.Drain(ctx)
		h.client.CloseIdleConnections()
		h.http.Close()
		primary.Close()
		store.Close()
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// b64 is a key or value as JSON has it.
func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// request sends a request and returns the status and the body.
func (h *harness) request(method, path, contentType, body string) (int, string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.http.URL+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// expand puts base64 for what stands between ‹ and ›.
func expand(s string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "‹")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		text, after, _ := strings.Cut(rest, "›")
		b.WriteString(b64(text))
		s = after
	}
}

// post calls path with JSON in which ‹text› stands for base64.
func (h *harness) post(path, body string) (int, string) {
	h.t.Helper()
	return h.request(http.MethodPost, path, "application/json", expand(body))
}

// expect calls path and wants 200 and this JSON, but for the header, which is {} there.
func (h *harness) expect(path, body, want string) int64 {
	h.t.Helper()
	code, got := h.post(path, body)
	if code != http.StatusOK {
		h.t.Fatalf("%s %s: %d %s", path, body, code, got)
	}
	answer := decode(h.t, got)
	revision := takeRevision(answer)
	if got, want := encode(answer), encode(decode(h.t, expand(want))); got != want {
		h.t.Fatalf("%s %s:\ngot  %s\nwant %s", path, body, got, want)
	}
	return revision
}

// refuse calls path and wants an error.
func (h *harness) refuse(path, body string, code int, text string) {
	h.t.Helper()
	gotCode, got := h.post(path, body)
	if gotCode != code || got != text+"\n" {
		h.t.Errorf("%s %s: %d %q, want %d %q", path, body, gotCode, got, code, text)
	}
}

func decode(t testing.TB, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return v
}

func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return strings.TrimSpace(b.String())
}

// takeRevision empties the header of an answer, and every mod_revision's value, and
// returns the header's revision.
func takeRevision(v any) int64 {
	var revision int64
	walk(v, func(m map[string]any) {
		if header, ok := m["header"].(map[string]any); ok {
			if n, ok := header["revision"].(json.Number); ok {
				revision, _ = n.Int64()
			}
			m["header"] = map[string]any{}
		}
		if _, ok := m["mod_revision"]; ok {
			m["mod_revision"] = "*"
		}
	})
	return revision
}

func walk(v any, fn func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		fn(v)
		for _, inner := range v {
			walk(inner, fn)
		}
	case []any:
		for _, inner := range v {
			walk(inner, fn)
		}
	}
}

// put writes a key without JSON and returns the revision.
func (h *harness) put(key, value string) int64 {
	h.t.Helper()
	put := &pb.PutRequest{Key: []byte(key), Value: []byte(value)}
	resp, err := h.primary.Txn(h.t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: put}}}})
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.Header.Revision
}

// socket is a WebSocket client.
type socket struct {
	*websocket.Conn
	t testing.TB
}

func (h *harness) dial(path string) *socket {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(h.http.URL, "http")+path, &websocket.DialOptions{HTTPClient: h.client})
	if err != nil {
		h.t.Fatal(err)
	}
	conn.SetReadLimit(64 << 20)
	h.t.Cleanup(func() { _ = conn.CloseNow() })
	return &socket{conn, h.t}
}

func (s *socket) send(message string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	if err := s.Write(ctx, websocket.MessageText, []byte(expand(message))); err != nil {
		s.t.Fatal(err)
	}
}

// text returns the next frame as it is.
func (s *socket) text() string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	_, b, err := s.Read(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// next returns the next frame.
func (s *socket) next() any {
	s.t.Helper()
	return decode(s.t, s.text())
}

// expect wants the next frame to be this, revisions left out, and returns its revision.
func (s *socket) expect(want string) int64 {
	s.t.Helper()
	frame := s.next()
	revision := takeRevision(frame)
	if got, want := encode(frame), encode(decode(s.t, expand(want))); got != want {
		s.t.Fatalf("got frame %s\nwant      %s", got, want)
	}
	return revision
}
