package server

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/replicate"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// The tests of this file and of realwatch_test.go run on the real engine: what
// a client sees of log, index and commit pipeline through this package.

// openEngine opens an engine in a folder; closing it is the caller's.
func openEngine(t testing.TB, path string) (*replicate.Primary, *mvcc.Store, func()) {
	t.Helper()
	log, err := sqllog.Open(context.Background(), sqllog.Config{Path: path, Logger: quietLogger()})
	if err != nil {
		t.Fatal(err)
	}
	store, err := mvcc.Open(context.Background(), log, mvcc.Config{Logger: quietLogger()})
	if err != nil {
		t.Fatal(err)
	}
	primary := replicate.New(log, store, replicate.Config{Logger: quietLogger()})
	return primary, store, func() {
		primary.Close()
		store.Close()
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
}

// startReal runs a server on a new engine until the test ends.
func startReal(t testing.TB, p Profile, change ...func(*Config)) *harness {
	t.Helper()
	primary, store, closeEngine := openEngine(t, filepath.Join(t.TempDir(), "log.db"))
	t.Cleanup(closeEngine)
	cfg := testConfig(nil, p)
	cfg.KV, cfg.Lessor, cfg.Admin, cfg.Watcher = primary, primary, primary, StoreWatcher(store)
	for _, f := range change {
		f(&cfg)
	}
	return serve(t, cfg)
}

// put writes a key by a Txn, as every profile allows, and returns the revision.
func (h *harness) put(t testing.TB, key, value string) int64 {
	t.Helper()
	op := putOp(key)
	op.GetRequestPut().Value = []byte(value)
	return h.mustTxn(t, &pb.TxnRequest{Success: ops(op)}).Header.Revision
}

func (h *harness) delete(t testing.TB, key string) int64 {
	t.Helper()
	return h.mustTxn(t, &pb.TxnRequest{Success: ops(delOp(key, ""))}).Header.Revision
}

func (h *harness) mustTxn(t testing.TB, r *pb.TxnRequest) *pb.TxnResponse {
	t.Helper()
	resp, err := h.kv.Txn(testContext(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func (h *harness) get(t testing.TB, r *pb.RangeRequest) *pb.RangeResponse {
	t.Helper()
	resp, err := h.kv.Range(testContext(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// update is a kube-apiserver write: put if the key was last changed at rev.
func update(key, value string, rev int64) *pb.TxnRequest {
	put := putOp(key)
	put.GetRequestPut().Value = []byte(value)
	return &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: []byte(key), Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: rev},
		}},
		Success: ops(put),
		Failure: ops(getOp(key)),
	}
}

func TestRealKubeWrites(t *testing.T) {
	for _, p := range []Profile{ProfileNetsy, ProfileEtcd} {
		t.Run(p.String(), func(t *testing.T) {
			h := startReal(t, p)
			if r := h.get(t, rangeOf("/k")); r.Header.Revision != 1 || r.Count != 0 {
				t.Fatalf("fresh store: %v", r)
			}
			created := h.mustTxn(t, update("/k", "one", 0))
			wantHeader(t, created.Header, 2)
			if again := h.mustTxn(t, update("/k", "two", 0)); again.Succeeded || again.Header.Revision != 2 ||
				string(again.Responses[0].GetResponseRange().Kvs[0].Value) != "one" {
				t.Fatalf("create of a key that exists: %v", again)
			}
			if changed := h.mustTxn(t, update("/k", "two", 2)); !changed.Succeeded || changed.Header.Revision != 3 {
				t.Fatalf("update: %v", changed)
			}
			got := h.get(t, rangeOf("/k"))
			wantHeader(t, got.Header, 3)
			if kv := got.Kvs[0]; kv.Version != 2 || kv.CreateRevision != 2 || kv.ModRevision != 3 {
				t.Fatalf("key: %v", kv)
			}
			if old := h.get(t, &pb.RangeRequest{Key: []byte("/k"), Revision: 2}); string(old.Kvs[0].Value) != "one" {
				t.Fatalf("at revision 2: %v", old)
			}
			if rev := h.delete(t, "/k"); rev != 4 {
				t.Fatalf("deleted at %d", rev)
			}
		})
	}
}

func TestRealRevisionErrors(t *testing.T) {
	h := startReal(t, ProfileEtcd)
	for i := range 5 {
		h.put(t, "k", fmt.Sprint(i))
	}
	ctx := testContext(t)
	_, err := h.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k"), Revision: 99})
	wantError(t, err, rpctypes.ErrGRPCFutureRev)
	compacted, err := h.kv.Compact(ctx, &pb.CompactionRequest{Revision: 4, Physical: true})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, compacted.Header, 6)
	_, err = h.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k"), Revision: 3})
	wantError(t, err, rpctypes.ErrGRPCCompacted)
	_, err = h.kv.Compact(ctx, &pb.CompactionRequest{Revision: 4})
	wantError(t, err, rpctypes.ErrGRPCCompacted)
	_, err = h.kv.Compact(ctx, &pb.CompactionRequest{Revision: 99})
	wantError(t, err, rpctypes.ErrGRPCFutureRev)
	_, err = h.maint.HashKV(ctx, &pb.HashKVRequest{Revision: 2})
	wantError(t, err, rpctypes.ErrGRPCCompacted)
	if hash, err := h.maint.HashKV(ctx, &pb.HashKVRequest{}); err != nil || hash.CompactRevision != 4 {
		t.Fatalf("HashKV: %v, %v", hash, err)
	}
	for _, action := range []func() error{
		func() error { _, err := h.maint.Hash(ctx, &pb.HashRequest{}); return err },
		func() error { _, err := h.maint.Defragment(ctx, &pb.DefragmentRequest{}); return err },
	} {
		if err := action(); err != nil {
			t.Error(err)
		}
	}
}

func TestRealPutAndDelete(t *testing.T) {
	h := startReal(t, ProfileEtcd)
	ctx := testContext(t)
	for i, key := range []string{"a", "b", "c"} {
		resp, err := h.kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("v"), PrevKv: true})
		if err != nil || resp.PrevKv != nil {
			t.Fatalf("put %s: %v, %v", key, resp, err)
		}
		wantHeader(t, resp.Header, int64(2+i))
	}
	del, err := h.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("c"), PrevKv: true})
	if err != nil || del.Deleted != 2 || len(del.PrevKvs) != 2 {
		t.Fatalf("delete: %v, %v", del, err)
	}
	wantHeader(t, del.Header, 5)
	none, err := h.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("x")})
	if err != nil || none.Deleted != 0 {
		t.Fatalf("delete of nothing: %v, %v", none, err)
	}
	wantHeader(t, none.Header, 5)
	_, err = h.kv.Put(ctx, &pb.PutRequest{Key: []byte("x"), IgnoreValue: true})
	wantError(t, err, rpctypes.ErrGRPCKeyNotFound)
	_, err = h.kv.Put(ctx, &pb.PutRequest{Key: []byte("x"), Lease: 99})
	wantError(t, err, rpctypes.ErrGRPCLeaseNotFound)
}

// etcd 3.7 dies of these; here the client gets an error and nothing changes.
func TestRealTxnFailsHalfWay(t *testing.T) {
	h := startReal(t, ProfileEtcd)
	h.put(t, "k", "v")
	ignore := putOp("k")
	ignore.GetRequestPut().IgnoreValue = true
	future := getOp("k")
	future.GetRequestRange().Revision = 99
	leased := putOp("l")
	leased.GetRequestPut().Lease = 99
	for name, c := range map[string]struct {
		branch []*pb.RequestOp
		want   error
	}{
		"ignore_value after delete": {ops(delOp("a", "\x00"), ignore), rpctypes.ErrGRPCKeyNotFound},
		"future read after put":     {ops(putOp("a"), future), rpctypes.ErrGRPCFutureRev},
		"unknown lease after put":   {ops(putOp("a"), leased), rpctypes.ErrGRPCLeaseNotFound},
	} {
		_, err := h.kv.Txn(testContext(t), &pb.TxnRequest{Success: c.branch})
		t.Run(name, func(t *testing.T) { wantError(t, err, c.want) })
	}
	got := h.get(t, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if got.Header.Revision != 2 || got.Count != 1 {
		t.Fatalf("something changed: %v", got)
	}
}

// The merged chunks of a RangeStream are the answer of Range.
func TestRealRangeStream(t *testing.T) {
	h := startReal(t, ProfileNetsy)
	value := string(bytes.Repeat([]byte{'v'}, 20_000))
	for i := range 100 {
		h.put(t, fmt.Sprintf("/r/%03d", i), value)
	}
	for name, change := range map[string]func(*pb.RangeRequest){
		"all":        func(*pb.RangeRequest) {},
		"limit":      func(r *pb.RangeRequest) { r.Limit = 37 },
		"revision":   func(r *pb.RangeRequest) { r.Revision = 50 },
		"keys only":  func(r *pb.RangeRequest) { r.KeysOnly = true },
		"count only": func(r *pb.RangeRequest) { r.CountOnly = true },
		"empty":      func(r *pb.RangeRequest) { r.Key = []byte("/r/x") },
	} {
		t.Run(name, func(t *testing.T) {
			r := &pb.RangeRequest{Key: []byte("/r/"), RangeEnd: []byte("/r0")}
			change(r)
			stream, err := h.kv.RangeStream(testContext(t), r)
			if err != nil {
				t.Fatal(err)
			}
			merged := &pb.RangeResponse{}
			chunks := receiveAll(t, stream.Recv)
			for i, c := range chunks {
				if part := c.RangeResponse; i < len(chunks)-1 && (part.Header != nil || part.More || part.Count != 0) {
					t.Errorf("chunk %d carries more than keys", i)
				}
				proto.Merge(merged, c.RangeResponse)
			}
			if want := h.get(t, r); !proto.Equal(merged, want) {
				t.Errorf("%d chunks: header %v count %d more %v, %d keys; Range: header %v count %d more %v, %d keys",
					len(chunks), merged.Header, merged.Count, merged.More, len(merged.Kvs),
					want.Header, want.Count, want.More, len(want.Kvs))
			}
		})
	}
}

func TestRealLeases(t *testing.T) {
	h := startReal(t, ProfileEtcd)
	ctx := testContext(t)
	grant, err := h.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 100})
	if err != nil || grant.ID == 0 || grant.TTL != 100 {
		t.Fatalf("grant: %v, %v", grant, err)
	}
	wantHeader(t, grant.Header, 1)
	_, err = h.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: grant.ID, TTL: 100})
	wantError(t, err, rpctypes.ErrGRPCLeaseExist)
	_, err = h.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 1 << 40})
	wantError(t, err, rpctypes.ErrGRPCLeaseTTLTooLarge)
	if low, err := h.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: -5}); err != nil || low.TTL < 1 {
		t.Fatalf("grant of TTL -5: %v, %v", low, err)
	}

	op := putOp("leased")
	op.GetRequestPut().Lease = grant.ID
	h.mustTxn(t, &pb.TxnRequest{Success: ops(op)})
	ttl, err := h.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: grant.ID, Keys: true})
	if err != nil || ttl.GrantedTTL != 100 || len(ttl.Keys) != 1 {
		t.Fatalf("time to live: %v, %v", ttl, err)
	}
	wantHeader(t, ttl.Header, 2)
	stream := keepAlive(t, h)
	for id, want := range map[int64]int64{grant.ID: 100, 12345: 0} {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		if resp, err := stream.Recv(); err != nil || resp.ID != id || resp.TTL != want || resp.Header.Revision != 2 {
			t.Fatalf("keepalive: %v, %v", resp, err)
		}
	}
	if list, err := h.lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{}); err != nil || len(list.Leases) != 2 {
		t.Fatalf("leases: %v, %v", list, err)
	}

	revoke, err := h.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: grant.ID})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, revoke.Header, 3)
	if r := h.get(t, rangeOf("leased")); r.Count != 0 {
		t.Fatalf("the key outlived its lease: %v", r)
	}
	_, err = h.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: grant.ID})
	wantError(t, err, rpctypes.ErrGRPCLeaseNotFound)
	if gone, err := h.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: grant.ID}); err != nil || gone.TTL != -1 {
		t.Fatalf("time to live after revoke: %v, %v", gone, err)
	}
}

func TestRealStatus(t *testing.T) {
	h := startReal(t, ProfileNetsy)
	h.put(t, "k", "v")
	st, err := h.maint.Status(testContext(t), &pb.StatusRequest{})
	if err != nil || st.DbSize <= 0 || st.DbSizeInUse <= 0 || st.DbSizeInUse > st.DbSize || len(st.Errors) != 0 {
		t.Fatalf("status: %v, %v", st, err)
	}
	wantHeader(t, st.Header, 2)
	if alarms, err := h.maint.Alarm(testContext(t), &pb.AlarmRequest{}); err != nil || len(alarms.Alarms) != 0 {
		t.Fatalf("alarms: %v, %v", alarms, err)
	}
}
