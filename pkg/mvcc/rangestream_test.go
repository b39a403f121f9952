package mvcc

import (
	"context"
	"errors"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

func newStreamDB(t *testing.T) *db {
	d := newDB(t, Config{limits: small})
	for i := range 100 {
		d.write(put(fmt.Sprintf("k%02d", i), string(make([]byte, i%7*1000))))
	}
	return d
}

// TestRangeStream: the parts together are the answer of Range.
func TestRangeStream(t *testing.T) {
	d := newStreamDB(t)
	for _, r := range []*pb.RangeRequest{
		{Key: []byte("k"), RangeEnd: []byte("l")},
		{Key: []byte("k10"), RangeEnd: []byte{0}, Revision: 60},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 10},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 11},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 37},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 100},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 1000},
		{Key: []byte("k"), RangeEnd: []byte("l"), KeysOnly: true},
		{Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true},
		{Key: []byte("k"), RangeEnd: []byte("l"), SortOrder: pb.RangeRequest_DESCEND, Limit: 30},
		{Key: []byte("k"), RangeEnd: []byte("l"), MinModRevision: 50},
		{Key: []byte("k07")},
		{Key: []byte("none")},
	} {
		want, err := d.store.Range(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		var kvs []*mvccpb.KeyValue
		var last *pb.RangeResponse
		before := proto.CloneOf(r)
		err = d.store.RangeStream(context.Background(), r, func(part *pb.RangeResponse) error {
			if last != nil && last.Header != nil {
				t.Fatalf("%v: a part after the last", r)
			}
			kvs, last = append(kvs, part.Kvs...), part
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got := &pb.RangeResponse{Header: last.Header, Kvs: kvs, More: last.More, Count: last.Count}
		if !proto.Equal(got, want) || !proto.Equal(r, before) {
			t.Fatalf("%v: %d keys, count %d, more %v, want %d, %d, %v", r, len(kvs), got.Count, got.More, len(want.Kvs), want.Count, want.More)
		}
	}
}

// TestRangeStreamKeepsItsRevision while others write, and ends when that is
// compacted.
func TestRangeStreamKeepsItsRevision(t *testing.T) {
	d := newStreamDB(t)
	rev, keys := d.store.Revision(), 0
	err := d.store.RangeStream(context.Background(), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}, func(part *pb.RangeResponse) error {
		keys += len(part.Kvs)
		d.write(put(fmt.Sprintf("k%02d-", keys), "new"), del("k9", "l"))
		if part.Header != nil && part.Header.Revision != rev {
			t.Fatalf("header of %d", part.Header.Revision)
		}
		return nil
	})
	if err != nil || keys != 100 {
		t.Fatalf("%d keys, %v", keys, err)
	}
	parts := 0
	err = d.store.RangeStream(context.Background(), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}, func(*pb.RangeResponse) error {
		if parts++; parts == 2 {
			d.write(put("x", "1"))
			d.compact(d.store.Revision())
			d.scrub() // a stream between two parts holds nothing up
		}
		return nil
	})
	if !errors.Is(err, ErrCompacted) || parts != 2 {
		t.Fatalf("%v after %d parts", err, parts)
	}
}

func TestRangeStreamEndsWithSend(t *testing.T) {
	d := newStreamDB(t)
	gone := errors.New("client is gone")
	for _, r := range []*pb.RangeRequest{{Key: []byte("k"), RangeEnd: []byte("l")}, {Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true}} {
		if err := d.store.RangeStream(context.Background(), r, func(*pb.RangeResponse) error { return gone }); !errors.Is(err, gone) {
			t.Fatal(err)
		}
	}
	if err := d.store.RangeStream(context.Background(), &pb.RangeRequest{Key: []byte("k"), Revision: 1000}, nil); !errors.Is(err, ErrFutureRevision) {
		t.Fatal(err)
	}
	if err := d.store.RangeStream(context.Background(), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Revision: 1000}, nil); !errors.Is(err, ErrFutureRevision) {
		t.Fatal(err)
	}
}

// TestRangeStreamPartSizes: parts grow to about chunkBytes and not much more.
func TestRangeStreamPartSizes(t *testing.T) {
	d := newDB(t, Config{})
	for i := range 100 {
		d.write(put(fmt.Sprintf("k%02d", i), string(make([]byte, 100<<10))))
	}
	var sizes []int
	err := d.store.RangeStream(context.Background(), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}, func(part *pb.RangeResponse) error {
		sizes = append(sizes, proto.Size(part)>>10)
		return nil
	})
	if err != nil || len(sizes) < 5 || len(sizes) > 20 {
		t.Fatalf("parts of %v KiB, %v", sizes, err)
	}
}
