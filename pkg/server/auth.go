package server

import pb "go.etcd.io/etcd/api/v3/etcdserverpb"

// authServer is etcd's Auth service, which every profile refuses: kinsy knows
// its clients by their certificates.
type authServer struct {
	pb.UnimplementedAuthServer
}

var _ pb.AuthServer = (*authServer)(nil)
