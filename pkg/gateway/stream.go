package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kinsy/kinsy/pkg/server"
)

// A POST to /v3/watch is etcd's own, which AntiEtcd has not. So its answers have
// etcd's forms: integers as strings, leases in decimal, all fields of a key.

// maxStreamRequests is how many requests the body of a POST may have.
const maxStreamRequests = 1024

// serveStream reads the requests of the body, then sends what comes of them until
// the client leaves or the gateway stops.
func (g *Gateway) serveStream(w http.ResponseWriter, r *http.Request) {
	if !g.enter() {
		writeError(w, errStopping)
		return
	}
	defer g.watches.Done()
	body, err := g.readBody(w, r)
	if err != nil {
		writeError(w, toError(err))
		return
	}
	engine := g.cfg.Watcher.NewWatchStream()
	defer engine.Close()
	if err := startStream(engine, body); err != nil {
		writeError(w, toError(err))
		return
	}
	// The body was read; the connection stays as long as it is needed.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	g.metrics.streams.WithLabelValues(kindPost).Inc()
	defer g.metrics.streams.WithLabelValues(kindPost).Dec()

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stop := context.AfterFunc(g.draining, cancel)
	defer stop()
	s := &stream{g: g, w: w, control: control}
	if err := s.deliver(ctx, engine); r.Context().Err() == nil {
		if g.draining.Err() != nil {
			err = errStopping
		}
		_ = s.line("error", append(appendText([]byte(`{"message":`), toError(err).Message), '}'))
	}
}

// startStream makes what the body asks for, one JSON object after the other.
func startStream(engine server.WatchStream, body []byte) error {
	requests := json.NewDecoder(bytes.NewReader(body))
	for n := 0; ; n++ {
		var raw json.RawMessage
		switch err := requests.Decode(&raw); {
		case errors.Is(err, io.EOF) && n > 0:
			return nil
		case err != nil:
			return errNotJSON
		case n == maxStreamRequests:
			return errorf(http.StatusBadRequest, "more than %d requests in one body", maxStreamRequests)
		}
		o, ok := parseObject(raw)
		if !ok {
			return errNotObject
		}
		if err := streamRequest(engine, o); err != nil {
			return err
		}
	}
}

func streamRequest(engine server.WatchStream, o object) error {
	if o.get("progress_request") != nil {
		engine.Progress()
		return nil
	}
	r, ok, err := o.objectField("create_request")
	if err != nil || !ok {
		return badField("create_request", "an object")
	}
	q, err := watchRequest(r)
	if err != nil {
		return err
	}
	if q.ID, err = r.int64("watch_id"); err != nil {
		return err
	}
	_, _ = engine.Create(q) // a refused watch has its answer queued
	return nil
}

// stream writes the answers of one POST.
type stream struct {
	g       *Gateway
	w       io.Writer
	control *http.ResponseController
}

// deliver always returns an error: why it ended.
func (s *stream) deliver(ctx context.Context, engine server.WatchStream) error {
	forms := protojson.MarshalOptions{UseProtoNames: true}
	for {
		r, err := engine.Next(ctx)
		if err != nil {
			return err
		}
		resp := &pb.WatchResponse{
			Header: &pb.ResponseHeader{MemberId: s.g.cfg.MemberID, Revision: r.Revision}, WatchId: r.WatchID,
			Created: r.Created, Canceled: r.Canceled, CancelReason: r.CancelReason, CompactRevision: r.CompactRevision, Events: r.Events,
		}
		if r.CompactRevision != 0 && r.CancelReason == "" {
			resp.CancelReason = rpctypes.ErrCompacted.Error()
		}
		b, err := forms.Marshal(resp)
		if err != nil {
			return err
		}
		if err := s.line("result", b); err != nil {
			return err
		}
		s.g.metrics.events.Add(float64(len(r.Events)))
	}
}

// line writes one answer and sees to it that the client gets it now, or not at all.
func (s *stream) line(name string, message []byte) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"%s":`, name)
	if err := json.Compact(&b, message); err != nil {
		return err
	}
	b.WriteString("}\n")
	_ = s.control.SetWriteDeadline(time.Now().Add(s.g.cfg.WriteTimeout))
	if _, err := s.w.Write(b.Bytes()); err != nil {
		return err
	}
	return s.control.Flush()
}
