package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

// format is a value of --output.
type format string

const (
	formatText  format = "text"
	formatJSON  format = "json"
	formatTable format = "table"
)

var (
	allFormats = []format{formatText, formatJSON, formatTable}
	noTable    = []format{formatText, formatJSON}
)

func formatList(formats []format) string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = string(f)
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

func parseFormat(text string, formats []format) (format, error) {
	for _, f := range formats {
		if string(f) == text {
			return f, nil
		}
	}
	return "", usagef("--output must be %s, not %q", formatList(formats), text)
}

// header is that of an answer, in JSON.
type header struct {
	ClusterID uint64 `json:"cluster_id,omitempty"`
	MemberID  uint64 `json:"member_id,omitempty"`
	Revision  int64  `json:"revision,omitempty"`
	RaftTerm  uint64 `json:"raft_term,omitempty"`
}

// keyValue is a key in JSON. The value is there, also an empty one, unless it is not known.
type keyValue struct {
	Key            []byte `json:"key"`
	CreateRevision int64  `json:"create_revision,omitempty"`
	ModRevision    int64  `json:"mod_revision,omitempty"`
	Version        int64  `json:"version,omitempty"`
	Value          *value `json:"value,omitempty"`
	Lease          int64  `json:"lease,omitempty"`
}

func headerOf(h *pb.ResponseHeader) *header {
	if h == nil {
		return nil
	}
	return &header{ClusterID: h.GetClusterId(), MemberID: h.GetMemberId(), Revision: h.GetRevision(), RaftTerm: h.GetRaftTerm()}
}

func keyValueOf(kv *mvccpb.KeyValue) *keyValue {
	if kv == nil {
		return nil
	}
	one := keyOf(kv)
	if kv.GetVersion() > 0 { // of a key that was deleted there is none
		v := value(kv.GetValue())
		one.Value = &v
	}
	return one
}

// keyOf is a key without its value.
func keyOf(kv *mvccpb.KeyValue) *keyValue {
	return &keyValue{kv.GetKey(), kv.GetCreateRevision(), kv.GetModRevision(), kv.GetVersion(), nil, kv.GetLease()}
}

func keyValuesOf(kvs []*mvccpb.KeyValue, one func(*mvccpb.KeyValue) *keyValue) []*keyValue {
	all := make([]*keyValue, len(kvs))
	for i, kv := range kvs {
		all[i] = one(kv)
	}
	return all
}

// value is bytes that are base64 in JSON, also where there are none.
type value []byte

// MarshalText writes base64.
func (v value) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode([]byte{}, v), nil
}

// writeJSON writes a document on a line.
func (s *session) writeJSON(v any) error {
	encoder := json.NewEncoder(s.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// println writes a line of text.
func (s *session) println(text string) { fmt.Fprintln(s.out, text) }

// pair writes a key and its value, each on a line.
func (s *session) pair(kv *mvccpb.KeyValue, o kvOptions) {
	if !o.valueOnly {
		s.println(s.paint(terminal.Cyan, Escape(kv.GetKey())))
	}
	if !o.keysOnly {
		s.println(Escape(kv.GetValue()))
	}
}

// kvOptions says what of a key is written as text.
type kvOptions struct{ keysOnly, valueOnly bool }

// table writes columns. The first row names them.
func (s *session) table(rows [][]string) error {
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	first := true
	for line := range strings.Lines(text.String()) {
		if line = strings.TrimRight(line, " \n"); first {
			line = s.paint(terminal.Bold, line)
		}
		first = false
		s.println(line)
	}
	return nil
}

// kvTable writes keys as a table.
func (s *session) kvTable(kvs []*mvccpb.KeyValue, o kvOptions) error {
	rows := [][]string{{"KEY", "CREATED", "MODIFIED", "VERSION", "LEASE", "VALUE"}}
	for _, kv := range kvs {
		row := []string{Escape(kv.GetKey()), number(kv.GetCreateRevision()), number(kv.GetModRevision()), number(kv.GetVersion()), leaseOrDash(kv.GetLease()), ""}
		if !o.keysOnly {
			row[5] = Escape(kv.GetValue())
		}
		rows = append(rows, row)
	}
	return s.table(rows)
}

func number(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func leaseText(id int64) string { return fmt.Sprintf("%016x", uint64(id)) }

func leaseOrDash(id int64) string {
	if id == 0 {
		return "-"
	}
	return leaseText(id)
}
