package server

import (
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/replicate"
)

func TestStatus(t *testing.T) {
	h := start(t, ProfileNetsy)
	h.engine.setStatus(Status{
		DBSize: 8192, DBSizeInUse: 5000, Revision: 12, Errors: []string{"the last commit failed"},
	})
	resp, err := h.maint.Status(testContext(t), &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, resp.Header, 12)
	if resp.Version != DefaultEmulatedVersion || resp.StorageVersion != "3.6.0" ||
		resp.DbSize != 8192 || resp.DbSizeInUse != 5000 || resp.Leader != testMemberID ||
		!slices.Equal(resp.Errors, []string{"the last commit failed"}) || resp.IsLearner ||
		resp.RaftIndex != 0 || resp.RaftTerm != 0 || resp.RaftAppliedIndex != 0 {
		t.Fatalf("status %v", resp)
	}
}

func TestStorageVersion(t *testing.T) {
	for version, want := range map[string]string{"3.6.16": "3.6.0", "3.5.13": "3.5.0", "3.6": "3.6", "": ""} {
		if got := storageVersion(version); got != want {
			t.Errorf("%q: got %q, want %q", version, got, want)
		}
	}
}

func TestAlarm(t *testing.T) {
	const none, noSpace, corrupt = pb.AlarmType_NONE, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT
	const get, deactivate = pb.AlarmRequest_GET, pb.AlarmRequest_DEACTIVATE
	good, bad := Status{Healthy: true}, Status{}
	full, fullGood := Status{NoSpace: true}, Status{NoSpace: true, Healthy: true}
	for _, c := range []struct {
		profile Profile
		status  Status
		action  pb.AlarmRequest_AlarmAction
		asked   pb.AlarmType
		want    pb.AlarmType
	}{
		{ProfileNetsy, good, get, none, none},
		{ProfileNetsy, bad, get, none, corrupt},
		{ProfileNetsy, bad, get, corrupt, corrupt},
		{ProfileNetsy, bad, get, noSpace, none},
		{ProfileNetsy, full, get, none, corrupt},
		{ProfileNetsy, fullGood, get, none, none},
		{ProfileNetsy, bad, deactivate, corrupt, corrupt},
		{ProfileNetsy, good, deactivate, corrupt, none},
		{ProfileEtcd, good, get, none, none},
		{ProfileEtcd, bad, get, none, corrupt},
		{ProfileEtcd, full, get, none, noSpace},
		{ProfileEtcd, fullGood, get, noSpace, noSpace},
		{ProfileEtcd, full, get, corrupt, none},
		{ProfileEtcd, full, deactivate, noSpace, noSpace},
	} {
		h := start(t, c.profile)
		h.engine.setStatus(c.status)
		resp, err := h.maint.Alarm(testContext(t), &pb.AlarmRequest{Action: c.action, Alarm: c.asked})
		if err != nil {
			t.Fatal(err)
		}
		got := none
		for _, a := range resp.Alarms {
			got = a.Alarm
			if a.MemberID != testMemberID {
				t.Errorf("%+v: member %d", c, a.MemberID)
			}
		}
		if len(resp.Alarms) > 1 || got != c.want {
			t.Errorf("%+v: got %v", c, resp.Alarms)
		}
	}
}

func TestAlarmActions(t *testing.T) {
	h := start(t, ProfileEtcd)
	_, err := h.maint.Alarm(testContext(t), &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("activate: %v", err)
	}
	_, err = h.maint.Alarm(testContext(t), &pb.AlarmRequest{Action: 77})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("unknown action: %v", err)
	}
}

func TestHashes(t *testing.T) {
	h := start(t, ProfileEtcd)
	hash, err := h.maint.Hash(testContext(t), &pb.HashRequest{})
	if err != nil || hash.Hash != 99 {
		t.Fatalf("Hash: %v, %v", hash, err)
	}
	wantHeader(t, hash.Header, fakeRevision)
	kv, err := h.maint.HashKV(testContext(t), &pb.HashKVRequest{Revision: 3})
	if err != nil || kv.Hash != 42 || kv.HashRevision != 3 {
		t.Fatalf("HashKV: %v, %v", kv, err)
	}
	wantHeader(t, kv.Header, fakeRevision)
	h.engine.fail = mvcc.ErrCompacted
	_, err = h.maint.HashKV(testContext(t), &pb.HashKVRequest{Revision: 1})
	wantError(t, err, rpctypes.ErrGRPCCompacted)
	h.engine.fail = replicate.ErrStopped
	_, err = h.maint.Hash(testContext(t), &pb.HashRequest{})
	wantError(t, err, rpctypes.ErrGRPCStopped)
}

func TestDefragment(t *testing.T) {
	h := start(t, ProfileEtcd)
	if _, err := h.maint.Defragment(testContext(t), &pb.DefragmentRequest{}); err != nil {
		t.Fatal(err)
	}
	h.engine.fail = replicate.ErrNoSpace
	_, err := h.maint.Defragment(testContext(t), &pb.DefragmentRequest{})
	wantError(t, err, rpctypes.ErrGRPCNoSpace)
}

func TestMoveLeader(t *testing.T) {
	h := start(t, ProfileEtcd)
	if _, err := h.maint.MoveLeader(testContext(t), &pb.MoveLeaderRequest{TargetID: testMemberID}); err != nil {
		t.Fatal(err)
	}
	_, err := h.maint.MoveLeader(testContext(t), &pb.MoveLeaderRequest{TargetID: 1})
	wantError(t, err, rpctypes.ErrGRPCBadLeaderTransferee)
}

func TestMemberList(t *testing.T) {
	h := start(t, ProfileNetsy)
	resp, err := h.cluster.MemberList(testContext(t), &pb.MemberListRequest{Linearizable: true})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, resp.Header, 0)
	if len(resp.Members) != 1 {
		t.Fatalf("members %v", resp.Members)
	}
	m := resp.Members[0]
	if m.ID != testMemberID || m.Name != "node-1" || m.IsLearner ||
		!slices.Equal(m.ClientURLs, []string{"http://127.0.0.1:2379"}) {
		t.Fatalf("member %v", m)
	}
}
