package server

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// RangeStream reads one snapshot of a range in chunks. The engine decides where
// they are cut; the last one carries the header.
func (s *kvServer) RangeStream(r *pb.RangeRequest, stream pb.KV_RangeStreamServer) error {
	if err := checkRangeStream(r); err != nil {
		return err
	}
	err := s.cfg.KV.RangeStream(stream.Context(), r, func(chunk *pb.RangeStreamResponse) error {
		if rr := chunk.RangeResponse; rr != nil && rr.Header != nil {
			rr.Header = s.header(rr.Header)
		}
		return stream.Send(chunk)
	})
	return toGRPC(err)
}
