package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestWatch(t *testing.T) {
	h := start(t)
	for _, path := range []string{"/v3/watch", "/watch"} {
		ws := h.dial(path)
		ws.send(`{"create_request":{"key":"‹/a/›","range_end":"‹/a0›","watch_id":"one"}}`)
		begin := ws.expect(`{"result":{"header":{},"watch_id":"one","created":true}}`)
		h.expect("/v3/kv/put", `{"key":"‹/b/1›","value":"‹`+path+`›"}`, `{"header":{}}`)
		h.expect("/v3/kv/put", `{"key":"‹/a/1›","value":"‹`+path+`›"}`, `{"header":{}}`)
		got := ws.expect(`{"result":{"header":{},"events":[{"type":"PUT","kv":{"key":"‹/a/1›","value":"‹` + path + `›","mod_revision":"*"}}]}}`)
		if got != begin+2 {
			t.Errorf("the event is at revision %d, the watch began at %d", got, begin)
		}
		h.expect("/v3/kv/deleterange", `{"key":"‹/a/1›"}`, `{"header":{},"deleted":1}`)
		ws.expect(`{"result":{"header":{},"events":[{"type":"DELETE","kv":{"key":"‹/a/1›","value":"","mod_revision":"*"}}]}}`)
	}
}

func TestWatchIDs(t *testing.T) {
	h := start(t)
	ws := h.dial("/v3/watch")
	ws.send(`{"create_request":{"key":"‹a›","watch_id":5}}`)
	ws.expect(`{"result":{"header":{},"watch_id":5,"created":true}}`)
	ws.send(`{"create_request":{"key":"‹b›"}}`)
	ws.expect(`{"result":{"header":{},"watch_id":1,"created":true}}`)
	ws.send(`{"create_request":{"key":"‹c›","watch_id":"5"}}`) // in use
	ws.send(`{"cancelRequest":{"watchId":"5"}}`)
	ws.expect(`{"result":{"header":{},"watch_id":"5","canceled":true}}`)
	ws.send(`{"cancel_request":{"watch_id":"5"}}`) // not known any more
	ws.send(`{"create_request":{"key":"‹c›","watch_id":"5"}}`)
	ws.expect(`{"result":{"header":{},"watch_id":"5","created":true}}`)
	ws.send(`{"create_request":{"key":"‹c›","watch_id":{}}}`)
	ws.expect(`{"result":{"header":{},"canceled":true,"cancel_reason":"` + errWatchID.Error() + `"}}`)
}

func TestBadMessages(t *testing.T) {
	h := start(t, func(c *Config) { c.MaxWatches = 2 })
	ws := h.dial("/watch")
	for _, message := range []string{`{bad`, ``, `{}{}`} {
		ws.send(message)
		ws.expect(`{"error":"bad-json"}`)
	}
	for _, message := range []string{`null`, ` 0`, `false`, `""`} {
		ws.send(message)
		ws.expect(`{"error":"empty-message"}`)
	}
	for _, message := range []string{`{}`, `[]`, `5`, `{"raft":{}}`, `{"create_request":7}`, `{"cancel_request":{"watch_id":9}}`, `{"cancel_request":null}`} {
		ws.send(message) // passed over
	}
	ws.send(`{"create_request":{"key":"‹b›","range_end":"‹a›","watch_id":1}}`)
	ws.expect(`{"result":{"header":{},"watch_id":1,"canceled":true,"cancel_reason":"mvcc: watcher range is empty"}}`)
	ws.send(`{"create_request":{"key":"%","watch_id":1}}`)
	ws.expect(`{"result":{"header":{},"watch_id":1,"canceled":true,"cancel_reason":"key should be base64"}}`)
	ws.send(`{"create_request":{"key":"‹a›","watch_id":1,"filters":["NOGET"]}}`)
	ws.expect(`{"result":{"header":{},"watch_id":1,"canceled":true,"cancel_reason":"filters should be a list of NOPUT and NODELETE"}}`)
	for id := range 2 {
		ws.send(fmt.Sprintf(`{"create_request":{"key":"‹a›","watch_id":"w%d"}}`, id))
		ws.expect(fmt.Sprintf(`{"result":{"header":{},"watch_id":"w%d","created":true}}`, id))
	}
	ws.send(`{"create_request":{"key":"‹a›","watch_id":"w2"}}`)
	ws.expect(`{"result":{"header":{},"watch_id":"w2","canceled":true,"cancel_reason":"too many watches on this connection"}}`)
}

// TestWatchesAreMerged: one frame for a revision, one entry a key, whatever watches match.
func TestWatchesAreMerged(t *testing.T) {
	h := start(t)
	ws := h.dial("/watch")
	for i, watched := range []string{`"key":"‹/a›"`, `"key":"‹/›","range_end":"‹0›","filters":["NODELETE"]`, `"key":"‹/b›","prev_kv":true`} {
		ws.send(fmt.Sprintf(`{"create_request":{%s,"watch_id":%d}}`, watched, i+1))
		ws.expect(fmt.Sprintf(`{"result":{"header":{},"watch_id":%d,"created":true}}`, i+1))
	}
	var last int64
	for i := range 50 {
		h.expect("/v3/kv/txn", fmt.Sprintf(`{"success":[{"request_put":{"key":"‹/a›","value":"‹a%[1]d›"}},{"request_put":{"key":"‹/b›","value":"‹b%[1]d›"}},
			{"request_put":{"key":"‹c›","value":"‹c%[1]d›"}}]}`, i), `{"header":{},"succeeded":true,"responses":[{"response_put":{}},{"response_put":{}},{"response_put":{}}]}`)
	}
	for i := range 50 {
		frame := ws.next().(map[string]any)["result"].(map[string]any)
		events := frame["events"].([]any)
		if len(events) != 3 || frame["watch_id"] != nil {
			t.Fatalf("frame %d is %s", i, encode(frame))
		}
		revision, _ := frame["header"].(map[string]any)["revision"].(json.Number).Int64()
		for _, e := range events {
			kv := e.(map[string]any)["kv"].(map[string]any)
			if kv["mod_revision"].(json.Number).String() != fmt.Sprint(revision) {
				t.Errorf("revision %d has %s", revision, encode(kv))
			}
			if prev := e.(map[string]any)["prev_kv"]; (prev != nil) != (i > 0 && kv["key"] == b64("/b")) {
				t.Errorf("frame %d: previous value %v of %v", i, prev, kv["key"])
			}
		}
		if last != 0 && revision != last+1 {
			t.Errorf("revision %d after %d", revision, last)
		}
		last = revision
	}
	h.expect("/v3/kv/deleterange", `{"key":"‹/a›","range_end":"‹/c›"}`, `{"header":{},"deleted":2}`)
	if got := len(ws.next().(map[string]any)["result"].(map[string]any)["events"].([]any)); got != 2 {
		t.Errorf("%d events for two keys deleted", got)
	}
}

func TestRevocationIsOneFrame(t *testing.T) {
	h := start(t)
	h.expect("/v3/lease/grant", `{"ID":7,"TTL":100}`, `{"header":{},"ID":"0000000000000007","TTL":100}`)
	for _, key := range []string{"a", "b", "c"} {
		h.expect("/v3/kv/put", `{"key":"‹`+key+`›","value":"‹1›","lease":"0000000000000007"}`, `{"header":{}}`)
	}
	ws := h.dial("/watch")
	ws.send(`{"create_request":{"key":"‹/›","range_end":"‹0›"}}`)
	ws.expect(`{"result":{"header":{},"watch_id":1,"created":true}}`)
	h.expect("/v3/lease/revoke", `{"ID":"0000000000000007"}`, `{"header":{}}`)
	deleted := `{"type":"DELETE","kv":{"key":"‹%s›","value":"","mod_revision":"*"}}`
	ws.expect(`{"result":{"header":{},"events":[` + fmt.Sprintf(deleted+","+deleted+","+deleted, "a", "b", "c") + `]}}`)
}

func TestHistoryComesFirst(t *testing.T) {
	h := start(t)
	begin := h.expect("/v3/kv/put", `{"key":"‹a›","value":"‹1›"}`, `{"header":{}}`)
	h.expect("/v3/kv/put", `{"key":"‹b›","value":"‹1›"}`, `{"header":{}}`)
	h.expect("/v3/kv/put", `{"key":"‹a›","value":"‹2›"}`, `{"header":{}}`)
	ws := h.dial("/watch")
	ws.send(fmt.Sprintf(`{"create_request":{"key":"‹a›","start_revision":"%d","watch_id":1}}`, begin))
	ws.expect(`{"result":{"header":{},"watch_id":1,"created":true}}`)
	for i, want := range []int64{begin, begin + 2} {
		got := ws.expect(fmt.Sprintf(`{"result":{"header":{},"events":[{"type":"PUT","kv":{"key":"‹a›","value":"‹%d›","mod_revision":"*"}}]}}`, i+1))
		if got != want {
			t.Errorf("event at revision %d, want %d", got, want)
		}
	}
}

// TestStartInTheFuture: earlier events are left out, and progress is answered meanwhile.
func TestStartInTheFuture(t *testing.T) {
	h := start(t)
	now := h.expect("/v3/kv/put", `{"key":"‹a›","value":"‹0›"}`, `{"header":{}}`)
	ws := h.dial("/watch")
	ws.send(fmt.Sprintf(`{"create_request":{"key":"‹a›","start_revision":%d}}`, now+2))
	ws.expect(`{"result":{"header":{},"watch_id":1,"created":true}}`)
	ws.send(`{"progress_request":{}}`)
	if got := ws.expect(`{"result":{"header":{}}}`); got != now {
		t.Errorf("progress to %d, want %d", got, now)
	}
	for i := 1; i <= 2; i++ {
		h.expect("/v3/kv/put", fmt.Sprintf(`{"key":"‹a›","value":"‹%d›"}`, i), `{"header":{}}`)
	}
	if got := ws.expect(`{"result":{"header":{},"events":[{"type":"PUT","kv":{"key":"‹a›","value":"‹2›","mod_revision":"*"}}]}}`); got != now+2 {
		t.Errorf("event at %d, want %d", got, now+2)
	}
}

func TestCompactedWatch(t *testing.T) {
	h := start(t)
	var last int64
	for i := range 5 {
		last = h.expect("/v3/kv/put", fmt.Sprintf(`{"key":"‹a›","value":"‹%d›"}`, i), `{"header":{}}`)
	}
	if _, err := h.primary.Compact(t.Context(), last, true); err != nil {
		t.Fatal(err)
	}
	ws := h.dial("/watch")
	for range 3 { // its id is free again
		ws.send(`{"create_request":{"key":"‹a›","start_revision":2,"watch_id":"w"}}`)
		ws.expect(`{"result":{"header":{},"watch_id":"w","created":true}}`)
		ws.expect(fmt.Sprintf(`{"result":{"header":{},"watch_id":"w","canceled":true,"cancel_reason":"etcdserver: mvcc: required revision has been compacted","compact_revision":%d}}`, last))
	}
	if code, text := h.post("/v3/maintenance/status", `{}`); code != 200 || !strings.Contains(text, fmt.Sprintf(`"compact_revision":%d}`, last)) {
		t.Errorf("%d %s", code, text)
	}
}

func TestProgress(t *testing.T) {
	h := start(t)
	ws := h.dial("/watch")
	ws.send(`{"progress_request":{}}`) // of a connection without a watch
	first := ws.expect(`{"result":{"header":{}}}`)
	ws.send(`{"create_request":{"key":"‹a›","progress_notify":true,"watch_id":1}}`)
	ws.expect(`{"result":{"header":{},"watch_id":1,"created":true}}`)
	ws.expect(`{"result":{"header":{}}}`) // by itself
	h.expect("/v3/kv/put", `{"key":"‹z›","value":"‹1›"}`, `{"header":{}}`)
	for { // likewise, up to what concerns it not
		if got := ws.expect(`{"result":{"header":{}}}`); got == first+1 {
			break
		}
	}
	ws.send(`{"cancel_request":{"watch_id":1}}`)
	for frame := ""; !strings.Contains(frame, "canceled"); {
		frame = encode(ws.next())
	}
	ws.send(`{"progress_request":{}}`)
	ws.expect(`{"result":{"header":{}}}`)
}

// stuff writes more than the buffers of a connection hold.
func (h *harness) stuff() (writes int) {
	h.t.Helper()
	value := strings.Repeat("v", 1<<20)
	for ; writes < 12; writes++ {
		h.put("k", value)
	}
	return writes
}

// TestSlowReaderCatchesUp: what a client does not read in time, more than the engine queues for it, comes from the log
// later, all of it and in order.
func TestSlowReaderCatchesUp(t *testing.T) {
	h := start(t)
	ws := h.dial("/watch")
	ws.send(`{"create_request":{"key":"‹k›","range_end":"‹l›","prev_kv":true,"watch_id":1}}`)
	begin := ws.expect(`{"result":{"header":{},"watch_id":1,"created":true}}`)
	large := h.stuff()
	const txns, keys = 60, 100
	for i := range txns {
		var ops []string
		for key := range keys {
			ops = append(ops, fmt.Sprintf(`{"request_put":{"key":"‹k%d›","value":"‹%d›"}}`, key, i))
		}
		if _, err := h.API(t.Context(), "kv_txn", []byte(expand(`{"success":[`+strings.Join(ops, ",")+`]}`))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range large + txns {
		frame, want := ws.text(), 1
		if i >= large {
			want = keys
		}
		header := fmt.Sprintf(`{"result":{"header":{"revision":%d},"events":[`, begin+int64(i)+1)
		if n := strings.Count(frame, `"type"`); n != want || !strings.HasPrefix(frame, header) {
			t.Fatalf("%d events in %.80s, want %d in %s", n, frame, want, header)
		}
	}
}

func TestConnectionEnds(t *testing.T) {
	h := start(t)
	ws := h.dial("/watch")
	ws.send(`{"create_request":{"key":"‹k›"}}`)
	ws.expect(`{"result":{"header":{},"watch_id":1,"created":true}}`)
	go h.Drain(context.Background())
	_, _, err := ws.Read(t.Context())
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != websocket.StatusGoingAway || closed.Reason != "Server is stopping" {
		t.Errorf("at the end: %v", err)
	}
	if code, text := h.request(http.MethodGet, "/v3/watch", "", ""); code != 400 {
		t.Errorf("no upgrade: %d %s", code, text)
	}
}

func TestLargeMessageEndsTheConnection(t *testing.T) {
	h := start(t)
	ws := h.dial("/watch")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	// The server may be gone before it has read all, and its last word lost.
	_ = ws.Write(ctx, websocket.MessageText, []byte(`{"create_request":{"key":"`+strings.Repeat("k", messageLimit)+`"}}`))
	_, _, err := ws.Read(ctx)
	if code := websocket.CloseStatus(err); err == nil || ctx.Err() != nil || code != -1 && code != websocket.StatusMessageTooBig {
		t.Errorf("too large a message: %v", err)
	}
	h.watches.Wait()
}

// TestSilentClientIsLeft: one that neither reads nor answers pings.
func TestSilentClientIsLeft(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no pong":  func(c *Config) { c.PingInterval = 20 * time.Millisecond },
		"no reads": func(c *Config) { c.WriteTimeout = 50 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, change)
			ws := h.dial("/watch") // nobody reads, and so nobody answers a ping
			ws.send(`{"create_request":{"key":"‹k›","watch_id":1,"prev_kv":true}}`)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				h.watches.Wait()
			}()
			if name == "no reads" {
				h.stuff()
			}
			select {
			case <-ended:
			case <-time.After(limit):
				t.Fatal("the connection is still there")
			}
		})
	}
}

func TestOrigins(t *testing.T) {
	for _, tt := range []struct {
		allowed []string
		origin  string
		socket  bool
		header  string
	}{
		{nil, "", true, ""},
		{nil, "https://evil.example", false, ""},
		{[]string{"https://good.example"}, "https://evil.example", false, ""},
		{[]string{"https://good.example"}, "https://good.example", true, "https://good.example"},
		{[]string{AnyOrigin}, "https://any.example:8443", true, "https://any.example:8443"},
	} {
		h := start(t, func(c *Config) { c.Origins = tt.allowed })
		header := http.Header{}
		if tt.origin != "" {
			header.Set("Origin", tt.origin)
		}
		conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(h.http.URL, "http")+"/watch", &websocket.DialOptions{HTTPHeader: header, HTTPClient: h.client})
		if (err == nil) != tt.socket {
			t.Errorf("%v: %v", tt, err)
		}
		if conn != nil {
			_ = conn.CloseNow()
		}
		req, _ := http.NewRequest(http.MethodOptions, h.http.URL+"/v3/kv/put", nil)
		req.Header = header.Clone()
		req.Header.Set("Access-Control-Request-Method", "POST")
		resp, err := h.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got != tt.header || (resp.StatusCode == http.StatusNoContent) != (tt.header != "") {
			t.Errorf("%v: %d, %q", tt, resp.StatusCode, got)
		}
	}
	for _, bad := range []string{"good.example", "https://good.example/", "https://*.example", "", "ftp://x"} {
		if CheckOrigin(bad) == nil {
			t.Errorf("%q is taken for an origin", bad)
		}
	}
}
