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

// MemberList answers the one member. Its header has no revision, as in etcd.
func (s *clusterServer) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
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
