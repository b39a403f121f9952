package transfer

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"
)

func isCompacted(err error) bool {
	return status.Convert(err).Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCCompacted)
}

// state is what one server says of its history.
type state struct {
	revision, compacted int64
	hashes              map[int64]uint32
	leases              []string
	events              []string // of a watch from the compacted revision on
}

// stateOf asks a server for everything that is compared.
func stateOf(t testing.TB, p *peer) state {
	t.Helper()
	head, err := p.maint.HashKV(call(t), &pb.HashKVRequest{})
	ok(t, err)
	s := state{revision: head.Header.Revision, compacted: max(head.CompactRevision, 0), hashes: map[int64]uint32{}}
	for rev := max(s.compacted, 1); rev <= s.revision; rev++ {
		r, err := p.maint.HashKV(call(t), &pb.HashKVRequest{Revision: rev})
		ok(t, err)
		if r.HashRevision != rev {
			t.Fatalf("%s hashed revision %d for %d", p.name, r.HashRevision, rev)
		}
		s.hashes[rev] = r.Hash
	}
	s.leases = leasesOf(t, p)
	s.events = eventsOf(t, p, max(s.compacted, 1), s.revision)
	t.Logf("%s: revision %d, compacted %d, %d hashes, %d leases, %d events", p.name, s.revision, s.compacted, len(s.hashes), len(s.leases), len(s.events))
	return s
}

// leasesOf tells id, granted TTL and keys of each lease.
func leasesOf(t testing.TB, p *peer) []string {
	t.Helper()
	all, err := p.lease.LeaseLeases(call(t), &pb.LeaseLeasesRequest{})
	ok(t, err)
	var list []string
	for _, l := range all.Leases {
		r, err := p.lease.LeaseTimeToLive(call(t), &pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true})
		ok(t, err)
		slices.SortFunc(r.Keys, slices.Compare)
		list = append(list, fmt.Sprintf("%d ttl %d keys %q", r.ID, r.GrantedTTL, r.Keys))
	}
	slices.Sort(list)
	return list
}

// eventsOf watches everything from one revision to another, with the values
// before.
func eventsOf(t testing.TB, p *peer, from, to int64) []string {
	t.Helper()
	stream, err := p.watch.Watch(call(t))
	ok(t, err)
	ok(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: from, PrevKv: true,
	}}}))
	var events []string
	progress := false
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			t.Fatalf("%s ended the watch", p.name)
		}
		ok(t, err)
		if r.Canceled {
			t.Fatalf("%s canceled the watch from %d: %s, compacted %d", p.name, from, r.CancelReason, r.CompactRevision)
		}
		for _, e := range r.Events {
			events = append(events, tell(e))
		}
		if r.Created || progress && len(r.Events) > 0 || r.Header.Revision < to {
			// Progress answers come once all events were sent; a watch that is still
			// behind may leave one out.
			ok(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
				ProgressRequest: &pb.WatchProgressRequest{},
			}}))
			progress = true
			continue
		}
		if len(r.Events) == 0 {
			return events
		}
	}
}

func tell(e *mvccpb.Event) string {
	text := fmt.Sprintf("%s %v", e.Type, e.Kv)
	if e.PrevKv != nil {
		text += fmt.Sprintf(" was %v", e.PrevKv)
	}
	return strings.Join(strings.Fields(text), " ") // the text form of messages varies in blanks
}

// wantSame compares two states.
func wantSame(t *testing.T, got, want state) {
	t.Helper()
	if got.revision != want.revision || got.compacted != want.compacted {
		t.Fatalf("revision %d, compacted %d; want %d, %d", got.revision, got.compacted, want.revision, want.compacted)
	}
	if g, w := strings.Join(got.leases, "\n"), strings.Join(want.leases, "\n"); g != w {
		t.Fatalf("leases\n%s\nwant\n%s", g, w)
	}
	for i := range max(len(got.events), len(want.events)) {
		if i >= len(got.events) || i >= len(want.events) || got.events[i] != want.events[i] {
			t.Fatalf("event %d of %d (want %d):\n%s\nwant\n%s", i, len(got.events), len(want.events),
				at(got.events, i), at(want.events, i))
		}
	}
	for rev, h := range want.hashes {
		if got.hashes[rev] != h {
			t.Fatalf("HashKV at revision %d (of %d to %d): %x, want %x", rev, want.compacted, want.revision, got.hashes[rev], h)
		}
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "(none)"
}

// keysOf tells every key under a prefix at the head.
func keysOf(t testing.TB, p *peer, prefix string) string {
	t.Helper()
	var list []string
	for _, kv := range rangeOf(t, p, prefix) {
		list = append(list, tell(&mvccpb.Event{Kv: kv}))
	}
	return strings.Join(list, "\n")
}

// valuesOf tells the value and lease of every key.
func valuesOf(t testing.TB, p *peer) string {
	t.Helper()
	var list []string
	for _, kv := range rangeOf(t, p, "") {
		list = append(list, fmt.Sprintf("%q = %q, lease %d", kv.Key, kv.Value, kv.Lease))
	}
	return strings.Join(list, "\n")
}

func rangeOf(t testing.TB, p *peer, prefix string) []*mvccpb.KeyValue {
	t.Helper()
	key, end := []byte{0}, []byte{0}
	if prefix != "" {
		key, end = []byte(prefix), []byte(prefix)
		end[len(end)-1]++
	}
	r, err := p.kv.Range(call(t), &pb.RangeRequest{Key: key, RangeEnd: end})
	ok(t, err)
	return r.Kvs
}
