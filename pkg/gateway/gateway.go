package gateway

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/server"
)

// Gateway is an http.Handler. Its methods may be called concurrently.
type Gateway struct {
	cfg     Config
	limits  server.Limits
	calls   map[string]call
	metrics *metrics

	// draining ends when the gateway stops.
	draining context.Context
	drain    context.CancelFunc
	// mu orders the start of a watch against the end of all.
	mu      sync.Mutex
	stopped bool
	watches sync.WaitGroup
}

// call answers one API call.
type call func(ctx context.Context, o object) ([]byte, error)

var _ http.Handler = (*Gateway)(nil)

// The names of calls, as AntiEtcd has them.
const (
	callStatus = "maintenance_status"
	callWatch  = "watch"
)

// New builds a Gateway. The configuration must have passed Validate. Drain must be
// called.
func New(cfg Config) *Gateway {
	g := &Gateway{cfg: cfg.withDefaults()}
	g.limits = g.cfg.limits()
	g.draining, g.drain = context.WithCancel(context.Background())
	g.calls = map[string]call{
		"kv_txn": g.kvTxn, "kv_put": g.kvPut, "kv_range": g.kvRange, "kv_deleterange": g.kvDeleteRange,
		"lease_grant": g.leaseGrant, "lease_keepalive": g.leaseKeepAlive,
		"lease_revoke": g.leaseRevoke, "kv_lease_revoke": g.leaseRevoke,
		callStatus:         g.status,
		"lease_timetolive": g.leaseTimeToLive, "kv_lease_timetolive": g.leaseTimeToLive,
		"lease_leases": g.leaseLeases, "kv_lease_leases": g.leaseLeases, "kv_compaction": g.kvCompaction,
	}
	g.metrics = newMetrics()
	return g
}

// Drain refuses calls from now on and ends every watch: clients are told that the
// server stops, and cut off when they do not listen for a second. It returns when no
// watch is left or ctx ends.
func (g *Gateway) Drain(ctx context.Context) {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	g.drain()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.watches.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// enter counts a watch that Drain waits for. It reports false when it is too late.
func (g *Gateway) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return false
	}
	g.watches.Add(1)
	return true
}

// API answers a call without HTTP: name is kv_txn, kv_put, kv_range, kv_deleterange,
// lease_grant, lease_keepalive, lease_revoke, maintenance_status or what else has a
// path, params the JSON object that HTTP would carry. Errors are of type *Error.
func (g *Gateway) API(ctx context.Context, name string, params []byte) ([]byte, error) {
	if int64(len(params)) > g.cfg.bodyLimit() {
		return nil, errTooLarge
	}
	o, err := decodeBody(params)
	if err != nil {
		return nil, toError(err)
	}
	answer, err := g.run(ctx, name, o)
	if err != nil {
		return nil, toError(err)
	}
	return answer, nil
}

// run applies what every call has in common.
func (g *Gateway) run(ctx context.Context, name string, o object) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.RequestTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, g.recovered(name, p)
		}
	}()
	answerCall, known := g.calls[name]
	switch {
	case !known:
		return nil, errNoSuchURL
	case g.draining.Err() != nil:
		return nil, errStopping
	}
	if name != callStatus {
		if err := g.checkLeader(o); err != nil {
			return nil, err
		}
	}
	return answerCall(ctx, o)
}

// checkLeader heeds leaderonly, for callers that want the Primary and no other node,
// and nowaitquorum, for those that would rather hear at once that there is none.
func (g *Gateway) checkLeader(o object) error {
	leaderOnly, err := o.boolean("leaderonly")
	if err != nil {
		return err
	}
	noWait, err := o.boolean("nowaitquorum")
	if err != nil {
		return err
	}
	switch leader := g.leader(); {
	case leaderOnly && leader != g.cfg.MemberID:
		return errNotLeader
	case noWait && leader == 0:
		return errNoQuorum
	}
	return nil
}

// recovered logs a panic with its stack and returns what the client is told.
func (g *Gateway) recovered(name string, p any) error {
	g.metrics.panics.Inc()
	g.cfg.Logger.WithFields(logrus.Fields{
		"call": name, "panic": p, "stack": string(debug.Stack()),
	}).Error("request handler panicked")
	return errInternal
}

// ServeHTTP answers a call, or serves a watch until it ends.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.allowOrigin(w, r) {
		return
	}
	name, below := callName(r.URL.Path)
	switch {
	case name == callWatch && isUpgrade(r):
		g.serveWebSocket(w, r)
		return
	case name == callWatch && below && r.Method == http.MethodPost && isJSON(r):
		g.serveStream(w, r)
		return
	}
	start := time.Now()
	answer, err := g.serveCall(w, r, name, below)
	code := http.StatusOK
	if err != nil {
		e := toError(err)
		code = e.Code
		writeError(w, e)
	} else {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer)
	}
	if g.calls[name] == nil {
		name = "unknown"
	}
	g.metrics.done(name, code, time.Since(start))
}

// serveCall checks the request in AntiEtcd's order and answers it.
func (g *Gateway) serveCall(w http.ResponseWriter, r *http.Request, name string, below bool) ([]byte, error) {
	if !below {
		return nil, errNoSuchURL
	}
	if !isJSON(r) {
		return nil, errContentType
	}
	if r.Method != http.MethodPost {
		return nil, errMethod
	}
	body, err := g.readBody(w, r)
	if err != nil {
		return nil, err
	}
	o, err := decodeBody(body)
	if err != nil {
		return nil, err
	}
	query := r.URL.Query()
	for _, flag := range []string{"leaderonly", "serializable", "nowaitquorum"} {
		if v := query.Get(flag); v != "" && v != "0" && v != "false" {
			o = o.with(flag, []byte("true"))
		}
	}
	return g.run(r.Context(), name, o)
}

// errNotRead is a body that did not come in full; nobody will read the answer.
var errNotRead = errorf(http.StatusBadRequest, "body was cut off")

func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, g.cfg.bodyLimit()))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge
	case err != nil:
		return nil, errNotRead
	}
	return body, nil
}

// callName makes the name of a call of a path below /v3/: the parts of the path
// joined by underscores. Of others only /watch has a name.
func callName(path string) (name string, below bool) {
	rest, below := strings.CutPrefix(path, "/v3/")
	if !below {
		return strings.Trim(path, "/"), false
	}
	parts := strings.FieldsFunc(rest, func(r rune) bool { return r == '/' })
	return strings.Join(parts, "_"), true
}

func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// isUpgrade reports whether a request asks for a WebSocket.
func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

func writeError(w http.ResponseWriter, e *Error) {
	text := e.Message + "\n"
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(e.Code)
	_, _ = io.WriteString(w, text)
}
