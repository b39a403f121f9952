package differential

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// The watch streams of a runner. Their watches are synchronised by progress requests, which etcd answers only
// when no watch of the stream starts in the future; so far-away starts have a stream of their own.
const (
	streamFuture = 3 // starts a little above the head
	streamNever  = 4 // starts that are never reached
	streamCount  = 5
)

// markerKey is written to make the head move before watches are compared.
const markerKey = "~marker"

// runner drives etcd and the subject through the same operations. It knows what the sequence may rely on: the
// head revision, the compact revision, the leases and the watches, all taken from the answers of etcd.
type runner struct {
	peers     [2]*peer // etcd, subject
	ids       [2]identity
	head      int64
	compacted int64
	settled   [streamCount]int64 // per watch stream: events up to this revision have been compared
	markers   int
	leases    map[int64]bool
	reborn    map[int64]bool // revisions that deleted a key and put it again
	kept      map[int64]bool // revisions whose hash etcd keeps since it compacted to them
	tally     map[string]int // answers by request and code, events by watch
	watches   [streamCount]map[int64]*pb.WatchCreateRequest
}

// newRunner starts two fresh servers.
func newRunner(t testing.TB) (*runner, error) {
	r := &runner{head: 1, compacted: -1, leases: map[int64]bool{}, tally: map[string]int{}, kept: map[int64]bool{}, reborn: map[int64]bool{}}
	r.peers = [2]*peer{{server: newEtcd(t, "etcd")}, {server: newSubject(t)}}
	r.forgetWatches()
	return r, r.each(func(_ int, p *peer) error {
		if err := p.start(); err != nil {
			return err
		}
		return p.connect(streamCount)
	})
}

// newCompactedRunner is newRunner on stores that were compacted to their first revision: TestFreshStore is about those
// that never were.
func newCompactedRunner(t *testing.T) (*runner, error) {
	r, err := newRunner(t)
	if err != nil {
		return r, err
	}
	return r, r.call(kindCall, &pb.CompactionRequest{Revision: 1})
}

// close ends both servers for good; nothing is kept, so there is no need to be gentle.
func (r *runner) close() {
	for _, p := range r.peers {
		p.disconnect()
		p.kill()
	}
}

// each calls f for both servers at the same time.
func (r *runner) each(f func(i int, p *peer) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(r.peers))
	for i, p := range r.peers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = f(i, p)
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (r *runner) forgetWatches() {
	for i := range r.watches {
		r.watches[i] = map[int64]*pb.WatchCreateRequest{}
	}
}

// do carries out one operation on both servers. An error describes how they differ.
func (r *runner) do(o op) error {
	req := o.rebased(r.head)
	switch o.kind {
	case kindCall, kindStream:
		return r.call(o.kind, req)
	case kindBrief:
		return r.brief(req.(*pb.LeaseGrantRequest))
	case kindCompact:
		return r.compact(req.(*pb.CompactionRequest))
	case kindWatch:
		return r.watch(o.stream, req.(*pb.WatchCreateRequest))
	case kindCancel:
		return r.cancel(o.stream, req.(*pb.WatchCancelRequest).WatchId)
	case kindSettle:
		return r.settle()
	case kindState:
		return r.state()
	case kindReset:
		return r.reset()
	case kindStop, kindKill:
		return r.restart(o.kind)
	default:
		return fmt.Errorf("unknown operation %q", o.kind)
	}
}

// call compares the answers to one request.
func (r *runner) call(k kind, req proto.Message) error {
	if h, ok := req.(*pb.HashKVRequest); ok && r.skipHash(h.Revision) {
		return nil
	}
	out, err := r.answers(k, req)
	if err != nil {
		return err
	}
	if diff := compare(out[0], out[1]); diff != "" {
		return fmt.Errorf("answers to %s differ\n%s%s", req.ProtoReflect().Descriptor().Name(), diff, r.deaths())
	}
	r.tally[fmt.Sprintf("%s %s", req.ProtoReflect().Descriptor().Name(), status.Code(out[0].err))]++
	r.learn(req, out[0])
	return nil
}

// skipHash says whether the hash of a revision is not to be compared. At a revision that deleted a key and put it again
// etcd takes the key for deleted.
func (r *runner) skipHash(rev int64) bool {
	asked := rev
	if rev == 0 {
		rev = r.head
	}
	return *flagHash == hashNone || *flagHash == hashComputed && (r.kept[rev] || r.kept[asked]) || r.reborn[rev]
}

// answers sends the request to both servers and normalises the headers of the answers.
func (r *runner) answers(k kind, req proto.Message) ([2]outcome, error) {
	var out [2]outcome
	err := r.each(func(i int, p *peer) error {
		out[i] = p.exchange(k, req)
		if h, ok := out[i].resp.(interface{ GetHeader() *pb.ResponseHeader }); ok {
			return p.checkHeader(h.GetHeader(), &r.ids[i])
		}
		return nil
	})
	if err == nil && unavailable(out[0].err) && r.deaths() != "" {
		err = fmt.Errorf("etcd: %w%s", out[0].err, r.deaths())
	}
	return out, err
}

// deaths reports servers that ended by themselves.
func (r *runner) deaths() string {
	var b strings.Builder
	for _, p := range r.peers {
		if err := p.exited(); err != nil {
			fmt.Fprintf(&b, "\n%v", err)
		}
	}
	return b.String()
}

// learn takes from etcd's answer what later operations build on.
func (r *runner) learn(req proto.Message, out outcome) {
	if out.err != nil {
		return
	}
	if h, ok := out.resp.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		r.head = max(r.head, h.GetHeader().GetRevision())
	}
	switch q := req.(type) {
	case *pb.CompactionRequest:
		r.compacted = q.Revision
		r.kept[q.Revision] = true
	case *pb.TxnRequest:
		if len(rebirths(q)) > 0 {
			r.reborn[r.head] = true
		}
	case *pb.LeaseGrantRequest:
		r.leases[q.ID] = true
	case *pb.LeaseRevokeRequest:
		delete(r.leases, q.ID)
	}
}

// brief grants a lease that may be short-lived or have an id chosen by the server, looks at it and revokes it.
func (r *runner) brief(req *pb.LeaseGrantRequest) error {
	out, err := r.answers(kindCall, req)
	if err != nil {
		return err
	}
	var ids [2]int64
	for i, o := range out {
		if g, ok := o.resp.(*pb.LeaseGrantResponse); ok && o.err == nil {
			if ids[i] = g.ID; req.ID == 0 && g.ID <= 0 {
				return fmt.Errorf("%s chose the lease id %d", r.peers[i].name, g.ID)
			}
			g.ID = req.ID
		}
	}
	if diff := compare(out[0], out[1]); diff != "" {
		return fmt.Errorf("answers to %s differ\n%s", text(req), diff)
	}
	if ids[0] == 0 {
		return nil
	}
	return r.endBrief(ids)
}

func (r *runner) endBrief(ids [2]int64) error {
	steps := []func(id int64) proto.Message{
		func(id int64) proto.Message { return &pb.LeaseTimeToLiveRequest{ID: id, Keys: true} },
		func(id int64) proto.Message { return &pb.LeaseRevokeRequest{ID: id} },
		func(id int64) proto.Message { return &pb.LeaseRevokeRequest{ID: id} },
	}
	for _, step := range steps {
		var out [2]outcome
		err := r.each(func(i int, p *peer) error {
			out[i] = p.exchange(kindCall, step(ids[i]))
			if l, ok := out[i].resp.(*pb.LeaseTimeToLiveResponse); ok && out[i].err == nil {
				l.ID = 0
			}
			if h, ok := out[i].resp.(interface{ GetHeader() *pb.ResponseHeader }); ok {
				return p.checkHeader(h.GetHeader(), &r.ids[i])
			}
			return nil
		})
		if err != nil {
			return err
		}
		if diff := compare(out[0], out[1]); diff != "" {
			return fmt.Errorf("answers to %s differ\n%s", text(step(ids[0])), diff)
		}
	}
	delete(r.leases, ids[0])
	return nil
}

// compact compacts when no watch is behind, and returns when both servers have really removed the rows. Of a
// compaction to a revision that has deleted a key and put it again etcd would die at the next read of the key.
func (r *runner) compact(req *pb.CompactionRequest) error {
	if err := r.settle(); err != nil || r.reborn[req.Revision] {
		return err
	}
	if err := r.call(kindCall, req); err != nil {
		return err
	}
	// A revision that is compacted already is refused, but with physical set only after earlier compactions.
	return r.call(kindCall, &pb.CompactionRequest{Revision: math.MinInt64, Physical: true})
}

// state compares everything that can be read: keys at several revisions, leases and hashes.
func (r *runner) state() error {
	all := pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	step := max((r.head-r.compacted)/4, 1)
	revs := []int64{0, r.compacted - 1}
	for rev := max(r.compacted, 1); rev <= r.head; rev += step {
		revs = append(revs, rev)
	}
	for _, rev := range revs {
		if err := r.call(kindCall, &pb.RangeRequest{Key: all.Key, RangeEnd: all.RangeEnd, Revision: rev}); err != nil {
			return err
		}
		if err := r.call(kindCall, &pb.HashKVRequest{Revision: rev}); err != nil {
			return err
		}
	}
	if err := r.call(kindCall, &pb.LeaseLeasesRequest{}); err != nil {
		return err
	}
	for _, id := range r.leaseIDs() {
		if err := r.call(kindCall, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true}); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) leaseIDs() []int64 {
	ids := make([]int64, 0, len(r.leases))
	for id := range r.leases {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// reset compares what is left, empties the key space and opens new watch streams.
func (r *runner) reset() error {
	for range 64 {
		if r.progressable(streamFuture) {
			break
		}
		if err := r.mark(); err != nil {
			return err
		}
	}
	if err := errors.Join(r.settle(), r.state()); err != nil {
		return err
	}
	for _, id := range r.leaseIDs() {
		if err := r.call(kindCall, &pb.LeaseRevokeRequest{ID: id}); err != nil {
			return err
		}
	}
	if err := r.call(kindCall, &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}); err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	r.forgetWatches()
	return r.each(func(_ int, p *peer) error { return p.openStreams(streamCount) })
}

// watchIDs returns the ids of the watches of a stream, in order.
func (r *runner) watchIDs(stream int) []int64 { return slices.Sorted(maps.Keys(r.watches[stream])) }
