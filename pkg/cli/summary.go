package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/sqllog"
	"github.com/kinsy/kinsy/pkg/transfer"
)

// facts prints what a command has done, a name and a value on each line.
type facts struct {
	out io.Writer
	err error
}

func (f *facts) line(name, format string, args ...any) {
	if f.err == nil {
		_, f.err = fmt.Fprintf(f.out, "%-11s  %s\n", name, fmt.Sprintf(format, args...))
	}
}

// moved prints what an export or an import has moved. hash is nil where it cannot be had.
func (f *facts) moved(sum transfer.Summary, hash *pb.HashKVResponse) {
	f.line("keys", "%d", sum.Keys)
	f.line("changes", "%d", sum.Changes)
	f.line("leases", "%d", sum.Leases)
	f.line("revision", "%d", sum.Revision)
	f.line("compacted", "%s", compacted(int64(sum.CompactRevision)))
	if hash != nil {
		f.line("hash", "%d at revision %d", hash.Hash, hash.HashRevision)
	}
}

func compacted(revision int64) string {
	if revision <= 0 {
		return "never"
	}
	return fmt.Sprint(revision)
}

// warn says what was left out.
func (s *session) warn(sum transfer.Summary) {
	for _, text := range sum.Warnings {
		fmt.Fprintf(s.errs, "kinsy: warning: %s\n", text)
	}
}

// historyHash is the hash that etcd gives for a log's history at its last revision.
func (s *session) historyHash(ctx context.Context, log *sqllog.Log) (*pb.HashKVResponse, error) {
	store, err := mvcc.Open(ctx, log, mvcc.Config{CacheBytes: -1, ProgressInterval: math.MaxInt64, Logger: s.log})
	if err != nil {
		return nil, fmt.Errorf("hash history: %w", err)
	}
	defer store.Close()
	hash, err := store.HashKV(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("hash history: %w", err)
	}
	return hash, nil
}

// lastWrite is when the newest row was written that a log still has; zero if it has none.
func lastWrite(ctx context.Context, log *sqllog.Log) (last time.Time, err error) {
	step := sqllog.ID(64)
	for upTo := log.Head().ID; upTo > 0 && last.IsZero(); step *= 8 {
		after := max(upTo-step, 0)
		err := log.ScanKeys(ctx, after, upTo, func(r *sqllog.Row) error {
			last = time.UnixMilli(r.WrittenAt)
			return nil
		})
		if err != nil {
			return time.Time{}, fmt.Errorf("look for the last row: %w", err)
		}
		upTo = after
	}
	return last, nil
}

// utc is how times are printed.
func utc(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// quote makes a shell take text as one word.
func quote(text string) string {
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/:._-+=,@%", r)
	}) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
