package server

import (
	"context"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maintenanceServer is etcd's Maintenance service. Snapshot is in snapshot.go;
// Downgrade is refused by every profile before it gets here.
type maintenanceServer struct {
	*Server
	pb.UnimplementedMaintenanceServer
}

var _ pb.MaintenanceServer = (*maintenanceServer)(nil)

// Status describes this node. Fields that belong to Raft stay 0.
func (s *maintenanceServer) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	st := s.cfg.Admin.Status()
	return &pb.StatusResponse{
		Header:         s.headerAt(st.Revision),
		Version:        s.cfg.EmulatedVersion,
		StorageVersion: storageVersion(s.cfg.EmulatedVersion),
		DbSize:         st.DBSize,
		DbSizeInUse:    st.DBSizeInUse,
		Leader:         s.leaderID(),
		Errors:         st.Errors,
		DowngradeInfo:  &pb.DowngradeInfo{},
	}, nil
}

// storageVersion is the version with patch 0, which is what etcd names its
// storage after.
func storageVersion(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 3 {
		return version
	}
	return parts[0] + "." + parts[1] + ".0"
}

// Alarms can be read. They follow the engine's state, so nobody raises or
// disarms them by hand; a disarm answers what is still raised.
var (
	errAlarmActivate = status.Error(codes.Unimplemented,
		"etcdserver: Alarm ACTIVATE is not supported by kinsy: alarms follow the state of the node")
	errAlarmAction = status.Error(codes.InvalidArgument, "etcdserver: unknown alarm action")
)

// Alarm lists what is raised, all of it or one kind.
func (s *maintenanceServer) Alarm(_ context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	kind := r.Alarm
	switch r.Action {
	case pb.AlarmRequest_GET:
	case pb.AlarmRequest_DEACTIVATE:
		kind = pb.AlarmType_NONE
	case pb.AlarmRequest_ACTIVATE:
		return nil, errAlarmActivate
	default:
		return nil, errAlarmAction
	}
	st := s.cfg.Admin.Status()
	resp := &pb.AlarmResponse{Header: s.headerAt(st.Revision)}
	if raised := s.cfg.Profile.alarm(st); raised != pb.AlarmType_NONE && (kind == pb.AlarmType_NONE || kind == raised) {
		resp.Alarms = []*pb.AlarmMember{{MemberID: s.cfg.MemberID, Alarm: raised}}
	}
	return resp, nil
}

// alarm names the alarm for a state. ProfileNetsy knows CORRUPT alone.
func (p Profile) alarm(st Status) pb.AlarmType {
	switch {
	case st.NoSpace && p == ProfileEtcd:
		return pb.AlarmType_NOSPACE
	case !st.Healthy:
		return pb.AlarmType_CORRUPT
	}
	return pb.AlarmType_NONE
}

// Hash is a checksum over the store with its history.
func (s *maintenanceServer) Hash(ctx context.Context, _ *pb.HashRequest) (*pb.HashResponse, error) {
	revision := s.cfg.Watcher.Revision()
	hash, err := s.cfg.Admin.Hash(ctx)
	if err != nil {
		return nil, toGRPC(err)
	}
	return &pb.HashResponse{Header: s.headerAt(revision), Hash: hash}, nil
}

// HashKV is a checksum over the keys at a revision.
func (s *maintenanceServer) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	resp, err := s.cfg.KV.HashKV(ctx, r.Revision)
	if err != nil {
		return nil, toGRPC(err)
	}
	resp.Header = s.headerNow(resp.Header)
	return resp, nil
}

// Defragment gives unused space back. The answer has no header, as in etcd.
func (s *maintenanceServer) Defragment(ctx context.Context, _ *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	if err := s.cfg.Admin.Defragment(ctx); err != nil {
		return nil, toGRPC(err)
	}
	return &pb.DefragmentResponse{}, nil
}

func (s *Server) leaderID() uint64 {
	if s.cfg.Leader == nil {
		return s.cfg.MemberID
	}
	return s.cfg.Leader()
}

// MoveLeader is for the leader to be asked, as in etcd; moving to it is done at
// once. The answer has no header, as in etcd.
func (s *maintenanceServer) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	switch {
	case r.TargetID == s.leaderID() && s.leaderID() == s.cfg.MemberID:
		return &pb.MoveLeaderResponse{}, nil
	case s.cfg.MoveLeader == nil:
		return nil, rpctypes.ErrGRPCBadLeaderTransferee
	case s.leaderID() != s.cfg.MemberID:
		return nil, rpctypes.ErrGRPCNotLeader
	}
	if err := s.cfg.MoveLeader(ctx, r.TargetID); err != nil {
		return nil, toGRPC(err)
	}
	return &pb.MoveLeaderResponse{}, nil
}
