package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/kinsy/kinsy/pkg/sqllog"
	"github.com/kinsy/kinsy/pkg/transfer"
)

// errNoDump: the text is not a dump that this package knows.
var errNoDump = errors.New(`a dump is {"kvs":[...]}, the answer to a txn, or the JSON lines of kinsy dump`)

// antiKey is a key in a dump of AntiEtcd, or in etcdctl's JSON.
type antiKey struct {
	Key         *base64Text `json:"key"`
	Value       *base64Text `json:"value"`
	ModRevision int64       `json:"mod_revision,omitempty"`
	Lease       leaseID     `json:"lease,omitempty"`
}

// antiRange is the answer to a read.
type antiRange struct {
	Kvs *[]antiKey `json:"kvs"`
}

// antiDump is the answer to a read, or to a Txn of reads.
type antiDump struct {
	antiRange
	Responses *[]struct {
		Range      *antiRange `json:"response_range"`
		RangeCamel *antiRange `json:"responseRange"`
	} `json:"responses"`
}

// base64Text is bytes in base64, padded or not.
type base64Text []byte

// UnmarshalText reads base64.
func (b *base64Text) UnmarshalText(text []byte) error {
	decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(string(text), "="))
	*b = decoded
	return err
}

// MarshalText writes base64, padded.
func (b base64Text) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

// leaseID is the id of a lease: 16 hexadecimal digits as a string, as in AntiEtcd, or a number, as in etcd.
type leaseID int64

// UnmarshalJSON reads an id.
func (l *leaseID) UnmarshalJSON(text []byte) error {
	unquoted, isText := bytes.CutPrefix(text, []byte(`"`))
	if !isText {
		n, err := strconv.ParseInt(string(text), 10, 64)
		if *l = leaseID(n); err != nil && string(text) != "null" {
			return fmt.Errorf("%.40s is not the id of a lease", text)
		}
		return nil
	}
	digits := string(bytes.TrimSuffix(unquoted, []byte(`"`)))
	if digits == "" {
		return nil
	}
	id, err := strconv.ParseUint(digits, 16, 64)
	if *l = leaseID(id); err != nil {
		return fmt.Errorf("%.40s is not the id of a lease", text)
	}
	return nil
}

// MarshalJSON writes an id as AntiEtcd does.
func (l leaseID) MarshalJSON() ([]byte, error) { return []byte(`"` + leaseText(int64(l)) + `"`), nil }

// parseAntiEtcd reads a dump: the answer to a read or to a Txn of reads.
func parseAntiEtcd(text []byte) ([]antiKey, error) {
	var dump antiDump
	if err := json.Unmarshal(text, &dump); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoDump, err)
	}
	if dump.Kvs == nil && dump.Responses == nil {
		return nil, errNoDump
	}
	var all []antiKey
	take := func(r *antiRange) {
		if r != nil && r.Kvs != nil {
			all = append(all, *r.Kvs...)
		}
	}
	if dump.Responses == nil {
		take(&dump.antiRange)
	} else {
		for _, r := range *dump.Responses {
			take(r.Range)
			take(r.RangeCamel)
		}
	}
	for i, kv := range all {
		switch {
		case kv.Key == nil || len(*kv.Key) == 0:
			return nil, fmt.Errorf("key number %d of the dump is empty", i+1)
		case kv.Value == nil:
			return nil, fmt.Errorf("key %s has no value in the dump", Escape(*kv.Key))
		}
	}
	return all, nil
}

// rowsOf makes rows of keys, after one for each lease that they name, with a time to live in seconds.
func rowsOf(all []antiKey, ttl int64) []sqllog.Row {
	var rows []sqllog.Row
	leases := map[leaseID]bool{}
	for _, kv := range all {
		if kv.Lease != 0 && !leases[kv.Lease] {
			leases[kv.Lease] = true
			rows = append(rows, sqllog.Row{Kind: sqllog.KindLease, Lease: int64(kv.Lease), Version: ttl})
		}
	}
	for _, kv := range all {
		rows = append(rows, sqllog.Row{Kind: sqllog.KindPut, Key: *kv.Key, Value: *kv.Value, Lease: int64(kv.Lease)})
	}
	return rows
}

// writeAntiEtcd writes a source as the answer to a read, a key on each line.
func writeAntiEtcd(ctx context.Context, w io.Writer, log *sqllog.Log) (transfer.Summary, error) {
	sum := transfer.Summary{Revision: log.Head().Revision}
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, `{"header":{"revision":%d},"kvs":[`, sum.Revision)
	leases := map[int64]bool{}
	err := eachLive(ctx, log, func(r *sqllog.Row) error {
		if sum.Keys++; sum.Keys > 1 {
			_ = out.WriteByte(',')
		}
		leases[r.Lease] = r.Lease != 0
		key, value := base64Text(r.Key), base64Text(r.Value)
		text, err := json.Marshal(antiKey{Key: &key, Value: &value, ModRevision: int64(r.Revision), Lease: leaseID(r.Lease)})
		if err == nil {
			_, err = out.WriteString("\n" + string(text))
		}
		return err
	})
	if err != nil {
		return sum, err
	}
	delete(leases, 0)
	sum.Leases = int64(len(leases))
	fmt.Fprint(out, "\n]}\n")
	return sum, out.Flush()
}

// eachLive calls f with each key that exists, in order of revision.
func eachLive(ctx context.Context, log *sqllog.Log, f func(*sqllog.Row) error) error {
	newest := map[string]sqllog.ID{}
	err := log.ScanKeys(ctx, 0, log.Head().ID, func(r *sqllog.Row) error {
		switch r.Kind {
		case sqllog.KindPut:
			newest[string(r.Key)] = r.ID
		case sqllog.KindDelete:
			delete(newest, string(r.Key))
		case sqllog.KindLease, sqllog.KindCompact, sqllog.KindEpoch, sqllog.KindMember:
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("scan keys: %w", err)
	}
	return log.Scan(ctx, 0, log.Head().ID, func(r *sqllog.Row) error {
		if r.Kind == sqllog.KindPut && newest[string(r.Key)] == r.ID {
			return f(r)
		}
		return nil
	})
}
