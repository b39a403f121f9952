package server

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// clusterServer is etcd's Cluster service. Its changes are refused by every
// profile before they get here.
type clusterServer struct {
	*Server
	pb.UnimplementedClusterServer
}

var _ pb.ClusterServer = (*clusterServer)(nil)

// MemberList answers the members. Its header has no revision, as in etcd.
func (s *clusterServer) MemberList(ctx context.Context, _ *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if s.cfg.Members != nil {
		members, err := s.cfg.Members(ctx)
		if err != nil {
			return nil, toGRPC(err)
		}
		return &pb.MemberListResponse{Header: s.header(nil), Members: members}, nil
	}
	return &pb.MemberListResponse{
		Header: s.header(nil),
		Members: []*pb.Member{{
			ID:         s.cfg.MemberID,
			Name:       s.cfg.MemberName,
			PeerURLs:   s.cfg.PeerURLs,
			ClientURLs: s.cfg.ClientURLs,
		}},
	}, nil
}
