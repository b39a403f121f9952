package storage

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	utilfeature "k8s.io/apiserver/pkg/util/feature"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

var (
	errNotSupported = errors.New("progress requests are not supported")
	errNotCompacted = errors.New("not compacted yet")
)

func parseRevision(t *testing.T, resourceVersion string) int64 {
	t.Helper()
	rev, err := storage.APIObjectVersioner{}.ParseResourceVersion(resourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	return int64(rev)
}

// increaseRevision moves the revision by one write outside the resource.
func (f *fixture) increaseRevision(ctx context.Context, t *testing.T) int64 {
	resp, err := f.client.KV.Txn(ctx).Then(clientv3.OpPut("outside", "")).Commit()
	if err != nil {
		t.Fatalf("write outside the resource: %v", err)
	}
	return resp.Header.Revision
}

// compact compacts the server as kube-apiserver does: by a Txn on
// compact_rev_key and the Compact call. The netsy profile refuses the call and
// compacts by itself to the revision that the key names.
func (f *fixture) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	rev := parseRevision(t, resourceVersion)
	_, _, _, err := etcd3.Compact(ctx, f.client.Client, 0, rev)
	if f.kind == process.Netsy {
		if status.Code(err) != codes.Unimplemented {
			t.Fatalf("compact call in the netsy profile: %v, want Unimplemented", err)
		}
	} else if err != nil {
		t.Fatalf("compact: %v", err)
	}
	err = process.Until(ctx, pollInterval, func(ctx context.Context) error { return f.compacted(ctx, rev) })
	if err != nil {
		t.Fatalf("wait for compaction to %d: %v", rev, err)
	}
}

// compacted checks that rev is the oldest revision that can be read, and that
// the store has heard of it.
func (f *fixture) compacted(ctx context.Context, rev int64) error {
	if _, err := f.client.KV.Get(ctx, "outside", clientv3.WithRev(rev-1)); !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("%w: read at %d: %w", errNotCompacted, rev-1, asError(err))
	}
	if _, err := f.client.KV.Get(ctx, "outside", clientv3.WithRev(rev)); err != nil {
		return fmt.Errorf("read at %d: %w", rev, err)
	}
	if got := f.store.CompactRevision(); got != rev && utilfeature.DefaultFeatureGate.Enabled(features.ListFromCacheSnapshot) {
		return fmt.Errorf("%w: the store knows %d", errNotCompacted, got)
	}
	return nil
}

var errNone = errors.New("no error")

func asError(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

// checkStored checks what lies in the server under a key: the object without
// resource version.
func (f *fixture) checkStored(ctx context.Context, t *testing.T, key string) {
	resp, err := f.client.KV.Get(ctx, key)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("read %s: %v, %v", key, resp, err)
	}
	obj, err := runtime.Decode(f.setup.codec, resp.Kvs[0].Value[len(valuePrefix):])
	if err != nil {
		t.Fatalf("decode %s: %v", key, err)
	}
	if pod := obj.(*example.Pod); pod.ResourceVersion != "" {
		t.Errorf("stored with resource version %q", pod.ResourceVersion)
	}
}

// keys lists the keys of the resource, for the estimate of object sizes.
func (f *fixture) keys(ctx context.Context) ([]string, error) {
	resp, err := f.client.KV.Get(ctx, f.setup.pathPrefix+resourcePrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	keys := make([]string, 0, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys, nil
}

// maxPage is the largest page that kube-apiserver asks for when it filters.
const maxPage = 10000

// checkCalls checks how many objects a list has read, and in how many requests:
// while it filters, kube-apiserver doubles the page with every request.
func (f *fixture) checkCalls(tr *storagetesting.PrefixTransformer) storagetesting.CallsValidation {
	return func(t *testing.T, pageSize, objects uint64) {
		if reads := tr.GetReadsAndReset(); reads != objects {
			t.Errorf("%d objects read, want %d", reads, objects)
		}
		want := uint64(1)
		if pageSize > 0 {
			page := pageSize
			for covered := uint64(1); covered < objects; want++ {
				page = min(2*page, maxPage)
				covered += page
			}
		}
		if calls := f.kv.GetReadsAndReset() + f.kv.GetStreamReadsAndReset(); calls != want {
			t.Fatalf("%d requests, want %d", calls, want)
		}
	}
}
