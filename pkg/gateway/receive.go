package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/server"
)

// watch is one watch of a connection.
type watch struct {
	name string // the client's id as text
	echo []byte // the id as JSON, as the client sent it
	id   int64  // the engine's
	// from is the first revision that the client wants; start is where the engine
	// begins, 0 for now.
	from, start int64
}

// receive handles messages until the connection ends.
func (s *session) receive() {
	for {
		_, message, err := s.conn.Read(context.Background())
		if err == nil {
			s.moved.Add(1)
			err = s.handle(message)
		} else {
			err = errLeft
		}
		if err != nil {
			s.cancel(err)
			return
		}
	}
}

// Answers to messages that are none.
var (
	badJSON      = []byte(`{"error":"bad-json"}`)
	emptyMessage = []byte(`{"error":"empty-message"}`)
)

// handle does what a message asks for; an error ends the connection. What is not
// known is passed over.
func (s *session) handle(message []byte) error {
	if !json.Valid(message) {
		return s.write(badJSON)
	}
	switch strings.TrimSpace(string(message)) {
	case "null", "false", "0", `""`:
		return s.write(emptyMessage)
	}
	o, ok := parseObject(message)
	if !ok {
		return nil
	}
	s.releaseOverrun()
	if r, ok, _ := o.objectField("create_request"); ok {
		return s.create(r)
	}
	if r, ok, _ := o.objectField("cancel_request"); ok {
		s.cancelWatch(r.get("watch_id"))
		return nil
	}
	if o.get("progress_request") != nil {
		return s.progress()
	}
	return nil
}

// releaseOverrun gives the ids of watches back that compaction has ended.
func (s *session) releaseOverrun() {
	s.mu.Lock()
	ids := s.overrun
	s.overrun = nil
	s.mu.Unlock()
	for _, id := range ids {
		_ = s.engine.Cancel(id) // deliver passes over its answer
	}
}

var errWatchID = errors.New("watch_id should be a number or a string of at most 64 bytes")

// watchName is the client's id of a watch as text, "" for none.
func watchName(raw []byte) (string, error) {
	if raw == nil {
		return "", nil
	}
	name := string(raw)
	switch raw[0] {
	case '"':
		if err := json.Unmarshal(raw, &name); err != nil {
			return "", errWatchID
		}
	case '{', '[', 't', 'f':
		return "", errWatchID
	}
	if name == "0" && raw[0] != '"' {
		return "", nil
	}
	if len(name) > clipLength {
		return "", errWatchID
	}
	return name, nil
}

func (s *session) create(o object) error {
	echo := o.get("watch_id")
	name, err := watchName(echo)
	if err != nil {
		return s.refuse(nil, err.Error())
	}
	req, err := watchRequest(o)
	if err != nil {
		return s.refuse(echo, toError(err).Message)
	}
	w, reason := s.reserve(name, echo)
	if reason != "" {
		return s.refuse(echo, reason)
	}
	if w == nil {
		return nil
	}
	// The engine answers no progress request while a watch is to start in the future:
	// such a watch starts now, and deliver leaves out what comes too early.
	w.from, w.start = req.StartRevision, req.StartRevision
	if now := s.g.cfg.Watcher.Revision(); w.start > now {
		req.StartRevision, w.start = now, 0
	}
	req.ID = 0
	s.mu.Lock()
	s.asked = append(s.asked, w)
	s.mu.Unlock()
	id, err := s.engine.Create(req)
	if errors.Is(err, mvcc.ErrClosed) {
		return err
	}
	s.mu.Lock()
	w.id = id
	s.mu.Unlock()
	return nil // a refused watch has its answer queued
}

// reserve takes an id for a watch: the client's, or the next number. There is no
// watch, and no reason, for an id that is in use.
func (s *session) reserve(name string, echo []byte) (w *watch, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.names)+len(s.asked) >= s.g.cfg.MaxWatches {
		return nil, "too many watches on this connection"
	}
	if name != "" && s.names[name] != nil {
		return nil, ""
	}
	for name == "" {
		s.nextName++
		if next := strconv.FormatInt(s.nextName, 10); s.names[next] == nil {
			name, echo = next, []byte(next)
		}
	}
	w = &watch{name: name, echo: echo}
	s.names[name] = w
	return w, ""
}

// refuse answers a create_request that never became a watch.
func (s *session) refuse(echo []byte, reason string) error {
	b := appendHeader([]byte(`{"result":{`), s.g.cfg.Watcher.Revision())
	b = appendWatchID(b, echo)
	b = append(b, `,"canceled":true,"cancel_reason":`...)
	return s.write(append(appendText(b, reason), "}}"...))
}

func appendWatchID(b, echo []byte) []byte {
	if echo == nil {
		return b
	}
	return append(append(b, `,"watch_id":`...), echo...)
}

// cancelWatch ends a watch; an id that is not known is passed over. The id may be
// used again at once. The answer repeats the id as it is given here.
func (s *session) cancelWatch(raw []byte) {
	name, err := watchName(raw)
	if err != nil || name == "" {
		return
	}
	s.mu.Lock()
	w := s.names[name]
	if w == nil {
		s.mu.Unlock()
		return
	}
	delete(s.names, name)
	w.echo = raw
	id := w.id
	s.mu.Unlock()
	_ = s.engine.Cancel(id) // it may have ended by itself
}

// maxWants is how many progress requests may wait; more are answered together.
const maxWants = 1024

// progress asks for the revision up to which the client has everything. Without a
// watch that is the current one.
func (s *session) progress() error {
	now := s.g.cfg.Watcher.Revision()
	s.mu.Lock()
	idle := s.active == 0 && len(s.asked) == 0
	if !idle && len(s.wants) < maxWants {
		s.wants = append(s.wants, now)
	}
	s.mu.Unlock()
	if idle {
		return s.write(progressFrame(now))
	}
	s.engine.Progress()
	return nil
}

// watchRequest decodes a create_request. The watch id is not in it.
func watchRequest(o object) (server.WatchRequest, error) {
	d := decoder{object: o}
	q := server.WatchRequest{
		StartRevision: d.int64("start_revision"), PrevKV: d.boolean("prev_kv"), ProgressNotify: d.boolean("progress_notify"),
	}
	key, end := d.span()
	q.Key = key
	switch {
	case len(end) == 1 && end[0] == 0:
		q.FromKey = true
	case len(end) > 0:
		q.End = end
	}
	if d.err != nil {
		return q, d.err
	}
	raw := o.get("filters")
	if raw == nil {
		return q, nil
	}
	ok, err := eachElement(raw, func(raw []byte) error {
		filter, _, known := object{{"filters", raw}}.enum("filters", pb.WatchCreateRequest_FilterType_value)
		if !known {
			return badField("filters", "a list of NOPUT and NODELETE")
		}
		q.NoPut = q.NoPut || filter == int32(pb.WatchCreateRequest_NOPUT)
		q.NoDelete = q.NoDelete || filter == int32(pb.WatchCreateRequest_NODELETE)
		return nil
	})
	if !ok {
		return q, badField("filters", "a list of NOPUT and NODELETE")
	}
	return q, err
}
