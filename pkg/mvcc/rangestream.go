package mvcc

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

const (
	firstChunkKeys = 10      // keys in the first part of a stream
	chunkBytes     = 1 << 20 // about what a part should hold
)

// RangeStream answers a Range request in parts, all of one revision. Header,
// count and more are on the last part alone. Between two parts nothing is held,
// so that a slow receiver delays no compaction: a stream whose revision is
// compacted meanwhile ends with ErrCompacted.
func (s *Store) RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*pb.RangeResponse) error) error {
	if r.CountOnly || !inKeyOrder(r) || r.SortTarget != pb.RangeRequest_KEY || filtered(r) {
		resp, err := s.Range(ctx, r)
		if err != nil {
			return err
		}
		return send(resp)
	}
	st := rangeStream{s: s, req: proto.CloneOf(r), left: r.Limit, send: send}
	for last := false; !last; {
		var err error
		if last, err = st.part(ctx); err != nil {
			return err
		}
	}
	return nil
}

type rangeStream struct {
	s       *Store
	req     *pb.RangeRequest // Key moves on, Limit is that of the next part
	left    int64            // of the request's limit; 0 or less: none
	current int64            // revision of the header
	keys    int64            // keys of the next part
	sent    int64
	send    func(*pb.RangeResponse) error
}

// part sends the next part and reports whether it was the last.
func (st *rangeStream) part(ctx context.Context) (last bool, err error) {
	if st.keys == 0 {
		st.keys = firstChunkKeys
	}
	st.req.Limit = st.keys
	limited := st.left > 0 && st.left <= st.keys
	if limited {
		st.req.Limit = st.left
	}
	resp, err := st.s.Range(ctx, st.req)
	if err != nil {
		return false, err
	}
	if st.current == 0 {
		st.current = resp.Header.Revision
		if st.req.Revision <= 0 {
			st.req.Revision = st.current
		}
	}
	last = !resp.More || limited
	count := st.sent + resp.Count
	st.sent += int64(len(resp.Kvs))
	st.left -= int64(len(resp.Kvs))
	if !last {
		st.adapt(proto.Size(resp))
		st.req.Key = append(append([]byte{}, resp.Kvs[len(resp.Kvs)-1].Key...), 0)
		return false, st.send(&pb.RangeResponse{Kvs: resp.Kvs})
	}
	resp.Header.Revision = st.current
	resp.Count = count
	return true, st.send(resp)
}

// adapt doubles or halves the keys of a part to come near chunkBytes.
func (st *rangeStream) adapt(size int) {
	switch {
	case size < chunkBytes/2:
		st.keys *= 2
	case size > 2*chunkBytes:
		st.keys = max(1, st.keys/2)
	}
}
