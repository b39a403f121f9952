package gateway

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// openStream posts to /v3/watch and returns its lines.
func (h *harness) openStream(body string) (lines *bufio.Scanner, leave func()) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.http.URL+"/v3/watch", strings.NewReader(expand(body)))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		h.t.Fatalf("status %d", resp.StatusCode)
	}
	return bufio.NewScanner(resp.Body), func() {
		cancel()
		_ = resp.Body.Close()
	}
}

// TestPostStream: etcd's form, integers as strings.
func TestPostStream(t *testing.T) {
	h := start(t)
	begin := h.expect("/v3/kv/put", `{"key":"‹a›","value":"‹1›"}`, `{"header":{}}`)
	lines, leave := h.openStream(fmt.Sprintf(`{"create_request":{"key":"‹a›","start_revision":"%d","watch_id":3}} {"createRequest":{"key":"‹z›","rangeEnd":"AA=="}}`, begin))
	defer leave()
	want := []string{
		fmt.Sprintf(`{"result":{"header":{"member_id":"1","revision":"%d"},"watch_id":"3","created":true}}`, begin),
		fmt.Sprintf(`{"result":{"header":{"member_id":"1","revision":"%d"},"created":true}}`, begin),
		fmt.Sprintf(`{"result":{"header":{"member_id":"1","revision":"%[1]d"},"watch_id":"3","events":[{"kv":{"key":"YQ==","create_revision":"%[1]d","mod_revision":"%[1]d","version":"1","value":"MQ=="}}]}}`, begin),
	}
	for _, w := range want {
		if !lines.Scan() || lines.Text() != w {
			t.Fatalf("got  %s\nwant %s", lines.Text(), w)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Drain(t.Context())
	}()
	if !lines.Scan() || lines.Text() != `{"error":{"message":"Server is stopping"}}` {
		t.Errorf("at the end: %s", lines.Text())
	}
	<-done
}

func TestPostStreamRefusals(t *testing.T) {
	h := start(t)
	for body, want := range map[string]string{
		``:                                   "body should be valid JSON",
		`{"create_request":{}} {`:            "body should be valid JSON",
		`[]`:                                 "body should be JSON object",
		`{}`:                                 "create_request should be an object",
		`{"create_request":{"key":1}}`:       "key should be a string",
		`{"create_request":{"watch_id":{}}}`: "watch_id should be a whole number of 64 bits",
	} {
		h.refuse("/v3/watch", body, 400, want)
	}
	if code, text := h.request(http.MethodGet, "/v3/watch", "application/json", ""); code != 405 {
		t.Errorf("GET: %d %s", code, text)
	}
}
