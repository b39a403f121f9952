package server

import (
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Profile is a choice of RPCs to answer.
type Profile string

const (
	// ProfileNetsy answers the netsy table and single-key Txns. The default.
	ProfileNetsy Profile = "netsy"
	// ProfileEtcd answers everything the engine can do.
	ProfileEtcd Profile = "etcd"
)

// ParseProfile reads the value of the --api flag.
func ParseProfile(text string) (Profile, error) {
	switch p := Profile(text); p {
	case ProfileNetsy, ProfileEtcd:
		return p, nil
	}
	return "", fmt.Errorf("unknown API profile %q: use netsy or etcd (--api)", text)
}

// String returns the value of the --api flag.
func (p Profile) String() string { return string(p) }

// support says in which profiles an RPC is answered.
type support int

const (
	supportNone support = iota // in none
	supportEtcd                // in ProfileEtcd
	supportAll                 // in both
)

// rpcTable lists the RPCs of etcd's services that are answered. What is not
// here is refused in both profiles: the rest of Cluster, Maintenance
// Downgrade, and all of Auth.
var rpcTable = map[string]support{
	"etcdserverpb.KV/Range":               supportAll,
	"etcdserverpb.KV/RangeStream":         supportAll,
	"etcdserverpb.KV/Txn":                 supportAll,
	"etcdserverpb.KV/Put":                 supportEtcd,
	"etcdserverpb.KV/DeleteRange":         supportEtcd,
	"etcdserverpb.KV/Compact":             supportEtcd,
	"etcdserverpb.Watch/Watch":            supportAll,
	"etcdserverpb.Lease/LeaseGrant":       supportAll,
	"etcdserverpb.Lease/LeaseRevoke":      supportEtcd,
	"etcdserverpb.Lease/LeaseKeepAlive":   supportEtcd,
	"etcdserverpb.Lease/LeaseTimeToLive":  supportEtcd,
	"etcdserverpb.Lease/LeaseLeases":      supportEtcd,
	"etcdserverpb.Cluster/MemberList":     supportAll,
	"etcdserverpb.Maintenance/Alarm":      supportAll,
	"etcdserverpb.Maintenance/Status":     supportAll,
	"etcdserverpb.Maintenance/Defragment": supportEtcd,
	"etcdserverpb.Maintenance/Hash":       supportEtcd,
	"etcdserverpb.Maintenance/HashKV":     supportEtcd,
	"etcdserverpb.Maintenance/MoveLeader": supportEtcd,
	"etcdserverpb.Maintenance/Snapshot":   supportEtcd,
}

// etcdPackage is the protobuf package that the profiles are about; health and
// reflection are always answered.
const etcdPackage = "etcdserverpb."

// refusal returns why p does not answer an RPC, or nil when it does.
func (p Profile) refusal(service, method string) error {
	if !strings.HasPrefix(service, etcdPackage) {
		return nil
	}
	in := rpcTable[service+"/"+method]
	switch {
	case in == supportAll, in == supportEtcd && p == ProfileEtcd:
		return nil
	case in == supportEtcd:
		return status.Errorf(codes.Unimplemented,
			"etcdserver: %s is not in the API profile %q: start kinsy with --api=etcd", method, p)
	}
	return status.Errorf(codes.Unimplemented, "etcdserver: %s is not supported by kinsy", method)
}

// The rules of ProfileNetsy for a Txn.
var (
	errTxnManyMutations = status.Error(codes.InvalidArgument,
		"etcdserver: a branch of the txn has more than one put or delete: "+
			"the API profile \"netsy\" allows one key per branch, --api=etcd allows more")
	errTxnDeletesRange = status.Error(codes.InvalidArgument,
		"etcdserver: the txn deletes a range of keys: "+
			"the API profile \"netsy\" allows one key per branch, --api=etcd allows more")
)

// checkTxn applies the profile's own rules to a Txn that passed checkTxn.
func (p Profile) checkTxn(r *pb.TxnRequest) error {
	if p == ProfileEtcd {
		return nil
	}
	_, err := singleKeyTxn(r)
	return err
}

// singleKeyTxn returns how many mutations r makes at most, whichever branches
// are taken, and an error when that is more than one or one is of a range.
func singleKeyTxn(r *pb.TxnRequest) (int, error) {
	success, err := singleKeyBranch(r.Success)
	if err != nil {
		return 0, err
	}
	failure, err := singleKeyBranch(r.Failure)
	return max(success, failure), err
}

func singleKeyBranch(ops []*pb.RequestOp) (int, error) {
	n := 0
	for _, op := range ops {
		switch v := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			n++
		case *pb.RequestOp_RequestDeleteRange:
			if len(v.RequestDeleteRange.RangeEnd) > 0 {
				return 0, errTxnDeletesRange
			}
			n++
		case *pb.RequestOp_RequestTxn:
			inner, err := singleKeyTxn(v.RequestTxn)
			if err != nil {
				return 0, err
			}
			n += inner
		}
	}
	if n > 1 {
		return 0, errTxnManyMutations
	}
	return n, nil
}
