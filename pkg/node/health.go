package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// phase is where a node is in its life.
type phase int32

const (
	phaseLoading phase = iota
	phaseServing
	phaseStopping
)

// engineStatus is what the engine says of its health.
type engineStatus struct {
	healthy bool     // the last commit succeeded
	noSpace bool     // the disk is full
	reasons []string // why it is not healthy
}

// check is one named condition of a health endpoint; run returns nil when it holds.
type check struct {
	name string
	run  func() error
}

// liveness holds unless the node has failed for good.
func (n *Node) liveness() []check {
	return []check{{"ping", func() error { return nil }}, {"node", n.Err}}
}

// readiness holds while the node serves and its last commit succeeded.
func (n *Node) readiness() []check {
	return []check{
		{"ping", func() error { return nil }},
		{"serving", n.checkServing},
		{"commit", n.checkCommit},
	}
}

func (n *Node) checkServing() error {
	if err := n.Err(); err != nil {
		return err
	}
	switch phase(n.phase.Load()) {
	case phaseServing:
		return nil
	case phaseStopping:
		return errors.New("shutting down")
	}
	if why := n.waiting.Load(); why != nil && *why != nil {
		return fmt.Errorf("loading: waiting for object storage: %w", *why)
	}
	return errors.New("loading")
}

// checkCommit says whether the last commit succeeded. Before the engine is there, nothing has failed.
func (n *Node) checkCommit() error {
	if phase(n.phase.Load()) != phaseServing {
		return nil
	}
	return n.engine.Status().err()
}

// err returns the status as an error, nil when healthy.
func (s engineStatus) err() error {
	switch {
	case s.healthy && !s.noSpace:
		return nil
	case len(s.reasons) > 0:
		return errors.New(strings.Join(s.reasons, "; "))
	case s.noSpace:
		return errors.New("no space left for the log")
	default:
		return errors.New("last commit failed")
	}
}

// handleChecks answers as Kubernetes does: "ok", or a line for each check when one fails or ?verbose asks for them.
func handleChecks(name string, checks []check) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var lines strings.Builder
		failed := false
		for _, c := range checks {
			if err := c.run(); err != nil {
				failed = true
				fmt.Fprintf(&lines, "[-]%s failed: %v\n", c.name, err)
				continue
			}
			fmt.Fprintf(&lines, "[+]%s ok\n", c.name)
		}
		setPlain(w)
		switch {
		case failed:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "%s%s check failed\n", lines.String(), name)
		case r.URL.Query().Has("verbose"):
			fmt.Fprintf(w, "%s%s check passed\n", lines.String(), name)
		default:
			fmt.Fprint(w, "ok")
		}
	}
}

// etcdHealth is the answer of etcd's /health.
type etcdHealth struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

// handleHealth answers /health as etcd does; ?exclude=NOSPACE leaves a full disk out of account.
func (n *Node) handleHealth(w http.ResponseWriter, r *http.Request) {
	err := n.checkServing()
	if err == nil {
		status := n.engine.Status()
		if status.noSpace && slices.Contains(r.URL.Query()["exclude"], "NOSPACE") {
			status = engineStatus{healthy: true}
		}
		err = status.err()
	}
	h, code := etcdHealth{Health: "true"}, http.StatusOK
	if err != nil {
		h, code = etcdHealth{Health: "false", Reason: err.Error()}, http.StatusServiceUnavailable
	}
	writeJSON(w, code, h)
}

// versions is the answer of /version: etcd's fields, and kinsy's own version.
type versions struct {
	Server  string `json:"etcdserver"`
	Cluster string `json:"etcdcluster"`
	Kinsy   string `json:"kinsy"`
}

func (n *Node) handleVersion(w http.ResponseWriter, _ *http.Request) {
	v := n.cfg.EmulatedEtcdVersion
	writeJSON(w, http.StatusOK, versions{Server: v, Cluster: clusterVersion(v), Kinsy: n.cfg.Version})
}

// clusterVersion returns MAJOR.MINOR.0 of a server version, which is the form of a cluster's version in etcd.
func clusterVersion(server string) string {
	parts := strings.SplitN(server, ".", 3)
	if len(parts) < 3 {
		return server
	}
	return parts[0] + "." + parts[1] + ".0"
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

func setPlain(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
}
