package kineclient

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/k3s-io/kine/pkg/client"
	"github.com/k3s-io/kine/pkg/endpoint"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

const (
	buildTimeout = 10 * time.Minute
	testTimeout  = time.Minute
	folder       = "/bootstrap/"
)

var binary string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// run builds kinsy, runs the tests and removes what it built.
func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "kinsy-kineclient-")
	if err != nil {
		return 1, fmt.Errorf("make build folder: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	if binary, err = process.BuildKinsy(ctx, dir); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// newClient starts kinsy in the profile and connects kine's client to it. Both
// end with the test.
func newClient(t *testing.T, kind process.Kind) (context.Context, client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	store, err := process.StartStore(ctx, process.StoreConfig{Kind: kind, Binary: binary, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Kill)
	c, err := client.New(endpoint.ETCDConfig{Endpoints: []string{"http://" + store.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return ctx, c
}

// TestObjects creates, reads, lists, changes and deletes in both profiles.
func TestObjects(t *testing.T) {
	for _, kind := range []process.Kind{process.Netsy, process.Etcd} {
		t.Run(string(kind), func(t *testing.T) {
			ctx, c := newClient(t, kind)
			testCreate(ctx, t, c)
			testChange(ctx, t, c)
			testDelete(ctx, t, c)
		})
	}
}

func testCreate(ctx context.Context, t *testing.T, c client.Client) {
	if _, err := c.Get(ctx, folder+"a"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("get of an absent key: %v", err)
	}
	must(t, c.Create(ctx, folder+"a", []byte("1")))
	if err := c.Create(ctx, folder+"a", []byte("2")); err == nil {
		t.Error("created twice")
	}
	must(t, c.Create(ctx, folder+"b", []byte("1")))
	must(t, c.Create(ctx, "/elsewhere", []byte("1")))
	check(t, get(ctx, t, c, "a"), "a", "1")
	values, err := c.List(ctx, folder, 0)
	must(t, err)
	if len(values) != 2 {
		t.Fatalf("listed %d, want 2", len(values))
	}
	check(t, values[0], "a", "1")
	check(t, values[1], "b", "1")
}

func testChange(ctx context.Context, t *testing.T, c client.Client) {
	before := get(ctx, t, c, "a")
	must(t, c.Update(ctx, folder+"a", before.Modified, []byte("2")))
	if err := c.Update(ctx, folder+"a", before.Modified, []byte("3")); err == nil {
		t.Error("updated from an old revision")
	}
	check(t, get(ctx, t, c, "a"), "a", "2")
	must(t, c.Put(ctx, folder+"a", []byte("4")))
	check(t, get(ctx, t, c, "a"), "a", "4")
	// kine's Put reads first and gives up on an absent key, on any server.
	if err := c.Put(ctx, folder+"absent", nil); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("put of an absent key: %v", err)
	}
	values, err := c.List(ctx, folder, int(before.Modified))
	must(t, err)
	if len(values) != 1 {
		t.Fatalf("listed %d at revision %d, want 1", len(values), before.Modified)
	}
	check(t, values[0], "a", "1")
}

func testDelete(ctx context.Context, t *testing.T, c client.Client) {
	value := get(ctx, t, c, "a")
	if err := c.Delete(ctx, folder+"a", value.Modified-1); err == nil {
		t.Error("deleted from an old revision")
	}
	must(t, c.Delete(ctx, folder+"a", value.Modified))
	if _, err := c.Get(ctx, folder+"a"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("get of a deleted key: %v", err)
	}
}

// TestCompact compacts in the etcd profile; the netsy profile refuses the call.
func TestCompact(t *testing.T) {
	t.Run(string(process.Etcd), func(t *testing.T) {
		ctx, c := newClient(t, process.Etcd)
		must(t, c.Create(ctx, folder+"a", []byte("1")))
		first := get(ctx, t, c, "a")
		must(t, c.Put(ctx, folder+"a", []byte("2")))
		second := get(ctx, t, c, "a")
		rev, err := c.Compact(ctx, second.Modified)
		must(t, err)
		if rev != second.Modified {
			t.Errorf("compact answers revision %d, want %d", rev, second.Modified)
		}
		if _, err := c.List(ctx, folder, int(first.Modified)); !errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("list at a compacted revision: %v", err)
		}
		check(t, get(ctx, t, c, "a"), "a", "2")
	})
	t.Run(string(process.Netsy), func(t *testing.T) {
		ctx, c := newClient(t, process.Netsy)
		must(t, c.Create(ctx, folder+"a", []byte("1")))
		if _, err := c.Compact(ctx, 2); status.Code(err) != codes.Unimplemented {
			t.Errorf("compact: %v, want Unimplemented", err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func get(ctx context.Context, t *testing.T, c client.Client, name string) client.Value {
	t.Helper()
	value, err := c.Get(ctx, folder+name)
	must(t, err)
	return value
}

func check(t *testing.T, value client.Value, name, data string) {
	t.Helper()
	if string(value.Key) != folder+name || string(value.Data) != data || value.Modified == 0 {
		t.Errorf("got %q = %q at %d, want %q = %q", value.Key, value.Data, value.Modified, folder+name, data)
	}
}
