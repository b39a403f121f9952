package s3

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
	"github.com/kinsy/kinsy/test/harness/faultproxy"
	"github.com/kinsy/kinsy/test/harness/gateway"
	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/process"
)

const (
	quorumStore = 0  // a write is acknowledged when its chunk is in object storage
	quorumLocal = -1 // a write is acknowledged when it is on disk
)

const (
	chunkFolder    = "chunks/"
	snapshotFolder = "snapshots/"
	maxObject      = 64 << 20
)

// world is a prefix of the S3 server behind a proxy of its own.
type world struct {
	t      testing.TB
	proxy  *faultproxy.Proxy
	prefix string
}

// worlds counts them: with -count a test runs several times beside one server.
var worlds atomic.Int64

var notInPrefix = regexp.MustCompile(`[^a-z0-9]+`)

func newWorld(t testing.TB) *world {
	t.Helper()
	t.Logf("seed %d", *flagSeed)
	p, err := faultproxy.Start(faultproxy.Config{Target: server.URL(), Seed: *flagSeed, Credentials: gateway.Credentials(), Region: gateway.Region})
	ok(t, err)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{t: t, proxy: p, prefix: fmt.Sprintf("clusters/%s-%d", notInPrefix.ReplaceAllString(strings.ToLower(t.Name()), "-"), worlds.Add(1))}
}

// config describes the object store as kinsy has it, but for the way to it.
func (w *world) config(endpoint, keyFile string) object.Config {
	return object.Config{URL: gateway.URL(w.prefix), KeyFile: keyFile, S3: object.S3Config{
		Endpoint: endpoint, Region: gateway.Region, AccessKey: gateway.AccessKey, SecretKey: gateway.SecretKey,
	}}
}

// flags are kinsy's flags for this world.
func (w *world) flags(quorum int, more ...string) []string {
	flags := append(gateway.Flags(w.proxy.URL(), w.prefix), "--quorum", fmt.Sprint(quorum))
	return append(flags, more...)
}

// node describes a node of this world.
func (w *world) node(quorum int, more ...string) *process.Node {
	w.t.Helper()
	return newNode(w.t, w.flags(quorum, more...)...)
}

// dir is the folder of the objects' files.
func (w *world) dir() string { return filepath.Join(server.Dir(), filepath.FromSlash(w.prefix)) }

// open opens the object store without the proxy.
func (w *world) open(ctx context.Context, keyFile string) (object.Store, error) {
	return object.Open(ctx, w.config(server.URL(), keyFile))
}

// list returns the objects of a folder.
func list(ctx context.Context, s object.Store, folder string) (found []object.Info, err error) {
	err = s.List(ctx, folder, "", func(i object.Info) error {
		found = append(found, i)
		return nil
	})
	return found, err
}

// chain is what the chunks in object storage hold.
type chain struct {
	chunks int
	rows   int64
	first  sqllog.ID   // of the oldest chunk
	end    sqllog.Head // of the newest chunk
}

// readChain reads all chunks and checks that each follows the one before.
func readChain(ctx context.Context, s object.Store) (c chain, err error) {
	infos, err := list(ctx, s, chunkFolder)
	if err != nil {
		return c, err
	}
	for _, info := range infos {
		body, _, err := object.ReadAll(ctx, s, info.Key, maxObject)
		if err != nil {
			return c, err
		}
		h, rows, err := rowfile.Decode(body)
		if err != nil {
			return c, fmt.Errorf("decode %s: %w", info.Key, err)
		}
		if err := c.add(info.Key, h, len(rows)); err != nil {
			return c, err
		}
	}
	return c, nil
}

// add checks that a chunk is at its place.
func (c *chain) add(key string, h rowfile.Header, rows int) error {
	switch {
	case key != fmt.Sprintf(chunkFolder+"%020d", h.First):
		return fmt.Errorf("%s holds rows from %d on", key, h.First)
	case c.chunks > 0 && h.First != c.end.ID+1:
		return fmt.Errorf("%s follows row %d", key, c.end.ID)
	case c.chunks > 0 && h.Before != c.end.Epoch:
		return fmt.Errorf("%s follows a row of epoch %d, by its own word of %d", key, c.end.Epoch, h.Before)
	case h.Head.Epoch < c.end.Epoch || h.Head.Revision < c.end.Revision:
		return fmt.Errorf("%s ends with %+v after %+v", key, h.Head, c.end)
	}
	if c.chunks == 0 {
		c.first = h.First
	}
	c.chunks++
	c.rows += int64(rows)
	c.end = h.Head
	return nil
}

// requireChain reads the chain and requires that it ends where the store is. For a request that was given up the store may
// go on meanwhile: least is a revision that it had before, and the client asks for the present one.
func (w *world) requireChain(keyFile string, least int64, client *clientv3.Client) chain {
	w.t.Helper()
	s, err := w.open(w.t.Context(), keyFile)
	ok(w.t, err)
	defer object.Close(s)
	c, err := readChain(w.t.Context(), s)
	ok(w.t, err)
	most, err := history.Revision(w.t.Context(), client)
	ok(w.t, err)
	if end := int64(c.end.Revision); end < least || end > most {
		w.t.Errorf("the chain ends at revision %d, want %d to %d: %+v", end, least, most, c)
	}
	return c
}
