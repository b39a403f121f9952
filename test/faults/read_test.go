package faults

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	_ "modernc.org/sqlite" // registers the "sqlite" driver
)

// pageKeys is how many keys one Range asks for.
const pageKeys = 5000

// revision returns the store's revision by a linearizable read.
func revision(ctx context.Context, c *clientv3.Client) (int64, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	resp, err := c.Get(ctx, "\x00", clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("read revision: %w", err)
	}
	return resp.Header.Revision, nil
}

// readAll reads all keys with a prefix at a revision, in pages as kube-apiserver does.
func readAll(ctx context.Context, c *clientv3.Client, prefix string, rev int64) (map[string]record, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	if prefix == "" {
		from, end = "\x00", "\x00"
	}
	found := map[string]record{}
	for {
		resp, err := c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(rev), clientv3.WithLimit(pageKeys))
		if err != nil {
			return nil, fmt.Errorf("read keys from %q: %w", from, err)
		}
		for _, kv := range resp.Kvs {
			found[string(kv.Key)] = recordOf(kv)
			from = string(kv.Key) + "\x00"
		}
		if !resp.More {
			return found, nil
		}
	}
}

func withPrefix(events []event, prefix string) (out []event) {
	for _, e := range events {
		if strings.HasPrefix(e.key, prefix) {
			out = append(out, e)
		}
	}
	return out
}

// checkDatabase runs SQLite's integrity check on a copy of a database and the files beside it: opening the database itself
// would change what the store finds after a crash.
func checkDatabase(path, dir string) error {
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(path+suffix, filepath.Join(dir, "copy.db"+suffix)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("copy database: %w", err)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "copy.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	var result string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&result); err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	if result != "ok" {
		return fmt.Errorf("database is damaged: %s", result)
	}
	return nil
}

// countRows counts the puts and deletes in the database of a store that does not run.
func countRows(path string) (n int, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return n, db.QueryRow("SELECT count(*) FROM log").Scan(&n)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
