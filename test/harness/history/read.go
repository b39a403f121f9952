package history

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
)

// pageKeys is how many keys one Range asks for.
const pageKeys = 5000

// Revision returns the store's revision by a linearizable read.
func Revision(ctx context.Context, c *clientv3.Client) (int64, error) {
	ctx, cancel := client.Within(ctx)
	defer cancel()
	resp, err := c.Get(ctx, "\x00", clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("read revision: %w", err)
	}
	return resp.Header.Revision, nil
}

// ReadAll reads all keys with a prefix at a revision (0: the newest one of each page), in pages as kube-apiserver does.
func ReadAll(ctx context.Context, c *clientv3.Client, prefix string, rev int64) (map[string]Record, error) {
	ctx, cancel := client.Within(ctx)
	defer cancel()
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	if prefix == "" {
		from, end = "\x00", "\x00"
	}
	found := map[string]Record{}
	for {
		resp, err := c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(rev), clientv3.WithLimit(pageKeys))
		if err != nil {
			return nil, fmt.Errorf("read keys from %q: %w", from, err)
		}
		for _, kv := range resp.Kvs {
			found[string(kv.Key)] = RecordOf(kv)
			from = string(kv.Key) + "\x00"
		}
		if !resp.More {
			return found, nil
		}
	}
}

// Replay reads the history from after base up to head with a watch of its own. Where it is compacted it begins after the
// compacted revision, which is returned; else that is 0.
func Replay(ctx context.Context, c *clientv3.Client, base, head int64) (events []Event, compacted int64, err error) {
	f := NewFollower("", base)
	err = f.CatchUp(ctx, c, head)
	var gone CompactedError
	if errors.As(err, &gone) {
		f = NewFollower("", gone.Revision)
		err = f.CatchUp(ctx, c, head)
	}
	return f.UpTo(head), gone.Revision, err
}
