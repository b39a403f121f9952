package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// restCall posts JSON to a node and returns the status and the body.
func restCall(t *testing.T, client *http.Client, url, body string) (int, string) {
	t.Helper()
	resp, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// wantREST wants 200 and an answer that has all parts.
func wantREST(t *testing.T, client *http.Client, url, body string, parts ...string) {
	t.Helper()
	code, text := restCall(t, client, url, body)
	for _, part := range parts {
		if code != http.StatusOK || !strings.Contains(text, part) {
			t.Fatalf("%s: %d %q lacks %q", url, code, text, part)
		}
	}
}

// TestRESTAndGRPCAreOneStore: also in the profile that hides most of gRPC's calls.
func TestRESTAndGRPCAreOneStore(t *testing.T) {
	c := storeConfig(t, t.TempDir())
	c.API, c.HTTPAddress = APINetsy, "127.0.0.1:0"
	n := startStored(t, c)
	client, url := newClient(t), n.HTTPURLs()[0]
	wantREST(t, client, url+"/v3/kv/put", `{"key":"YQ==","value":"MQ=="}`, `"header"`)
	wantREST(t, client, url+"/v3/kv/txn", `{"success":[{"request_put":{"key":"Yg==","value":"MQ=="}},{"request_put":{"key":"Yw==","value":"MQ=="}}]}`, `"succeeded":true`)
	resp, err := kvOf(t, n).Range(t.Context(), &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("d")})
	if err != nil || resp.Count != 3 || resp.Kvs[1].ModRevision != resp.Kvs[2].ModRevision {
		t.Fatalf("%v, %v", resp, err)
	}
	_, metrics := get(t, client, "http://"+n.MetricsAddr()+"/metrics")
	if !strings.Contains(metrics, `kinsy_rest_requests_total{call="kv_put",code="200"} 1`) {
		t.Error("the call was not counted")
	}
}

// TestRESTWatchEndsWithTheNode: a WebSocket does not hold a stop up.
func TestRESTWatchEndsWithTheNode(t *testing.T) {
	c := testConfig(t)
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(t)
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(n.HTTPURLs()[0], "http", "ws", 1)+"/watch", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	closed := make(chan error, 1)
	go func() {
		_, _, err := conn.Read(context.Background())
		closed <- err
	}()
	start := time.Now()
	if err := n.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-closed; websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the client was told %v", err)
	}
	if took := time.Since(start); took > drainLimit {
		t.Errorf("the stop took %v", took)
	}
}

// TestRESTWantsClientCertificates as gRPC does.
func TestRESTWantsClientCertificates(t *testing.T) {
	ca := newAuthority(t)
	files := ca.writeFiles(t, t.TempDir(), "server")
	c := testConfig(t)
	c.CertFile, c.KeyFile, c.TrustedCAFile = files.CertFile, files.KeyFile, files.TrustedCAFile
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(context.Background())
	url := n.HTTPURLs()[0]
	if !strings.HasPrefix(url, "https://") {
		t.Fatalf("URL %s", url)
	}
	for name, known := range map[string]bool{"client": true, "": false} {
		client := newClient(t)
		conf := ca.client(t, name)
		conf.NextProtos = []string{"http/1.1"}
		client.Transport.(*http.Transport).TLSClientConfig = conf
		resp, err := client.Post(url+"/v3/maintenance/status", "application/json", strings.NewReader(`{}`))
		if (err == nil) != known {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		conn, _, err := websocket.Dial(t.Context(), strings.Replace(url, "http", "ws", 1)+"/v3/watch", &websocket.DialOptions{HTTPClient: client})
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.CloseNow()
	}
}

// TestRESTInACluster: writes at a Replica are forwarded, and watched there.
func TestRESTInACluster(t *testing.T) {
	store := t.TempDir()
	var nodes []*Node
	for _, name := range []string{"n1", "n2"} {
		c := memberConfig(t, store, name)
		c.HTTPAddress = "127.0.0.1:0"
		nodes = append(nodes, startStored(t, c))
		awaitReady(t, nodes[0])
	}
	awaitReady(t, nodes[0], "kinsy_voters 2")
	awaitReady(t, nodes[1], `kinsy_role{role="replica"} 1`)
	client := newClient(t)
	primary, replica := nodes[0].HTTPURLs()[0], nodes[1].HTTPURLs()[0]
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(replica, "http", "ws", 1)+"/watch", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"create_request":{"key":"YQ=="}}`)); err != nil {
		t.Fatal(err)
	}
	if _, frame, err := conn.Read(t.Context()); err != nil || !bytes.Contains(frame, []byte(`"created":true`)) {
		t.Fatalf("%s, %v", frame, err)
	}
	wantREST(t, client, replica+"/v3/kv/put", `{"key":"YQ==","value":"MQ=="}`, `"header"`)
	if _, frame, err := conn.Read(t.Context()); err != nil || !bytes.Contains(frame, []byte(`"value":"MQ=="`)) {
		t.Fatalf("%s, %v", frame, err)
	}
	wantREST(t, client, primary+"/v3/kv/range?leaderonly=1", `{"key":"YQ=="}`, `"value":"MQ=="`)
	wantREST(t, client, replica+"/v3/kv/range?serializable=1", `{"key":"YQ=="}`, `"value":"MQ=="`)
	if code, text := restCall(t, client, replica+"/v3/kv/range?leaderonly=1", `{"key":"YQ=="}`); code != http.StatusServiceUnavailable {
		t.Errorf("leaderonly at a replica: %d %s", code, text)
	}
	if code, text := restCall(t, client, replica+"/v3/lease/keepalive", `{"ID":"00000000000000ff"}`); code != http.StatusBadRequest || text != "unknown lease\n" {
		t.Errorf("no such lease: %d %s", code, text)
	}
	if code, text := restCall(t, client, replica+"/v3/kv/put", `{"key":"YQ==","lease":"00000000000000ff"}`); code != http.StatusBadRequest || text != "unknown lease: 00000000000000ff\n" {
		t.Errorf("put under no lease: %d %s", code, text)
	}
	wantREST(t, client, primary+"/v3/maintenance/status", `{}`, `"member_id":"n1"`, `"leader":"n1"`, `"followers":["n2"]`, `"raftState":"leader"`)
	wantREST(t, client, replica+"/v3/maintenance/status", `{}`, `"member_id":"n2"`, `"leader":"n1"`, `"raftState":"follower"`)
}

// TestRESTGuide runs the examples of docs/REST.md: each line that begins with "$ curl" answers as the line after it says,
// but for numbers.
func TestRESTGuide(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join("..", "..", "docs", "REST.md"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := Start(t.Context(), testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(context.Background())
	client := newClient(t)
	lines, ran := strings.Split(string(guide), "\n"), 0
	for i, line := range lines {
		command, found := strings.CutPrefix(line, "    $ curl ")
		if !found {
			continue
		}
		path, rest, _ := strings.Cut(command, " ")
		path = strings.TrimPrefix(path, "$REST")
		body := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(rest), "--json '"), "'")
		code, text := restCall(t, client, n.HTTPURLs()[0]+path, body)
		if got, want := shape(t, text), shape(t, strings.TrimSpace(lines[i+1])); code != http.StatusOK || got != want {
			t.Errorf("%s\n%d %s\nwant %s", line, code, got, want)
		}
		ran++
	}
	if ran < 5 {
		t.Errorf("only %d examples were run", ran)
	}
}

// shape returns JSON with its fields in order and without its numbers.
func shape(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var hide func(v any) any
	hide = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for name := range v {
				v[name] = hide(v[name])
			}
		case []any:
			for i := range v {
				v[i] = hide(v[i])
			}
		case float64:
			return "N"
		}
		return v
	}
	return fmt.Sprint(hide(v))
}
