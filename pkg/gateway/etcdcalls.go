package gateway

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
)

// Calls of etcd's JSON gateway that AntiEtcd has not. Leases have the ids that they
// have in the other answers.

// leaseTimeToLive answers /v3/lease/timetolive and /v3/kv/lease/timetolive; for a
// lease that does not exist the TTL is -1.
func (g *Gateway) leaseTimeToLive(ctx context.Context, o object) ([]byte, error) {
	id, err := knownLease(o)
	if err != nil {
		return nil, err
	}
	keys, err := o.boolean("keys")
	if err != nil {
		return nil, err
	}
	resp, err := g.cfg.Lessor.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: keys})
	if errors.Is(err, mvcc.ErrLeaseNotFound) {
		resp, err = &pb.LeaseTimeToLiveResponse{ID: id, TTL: -1}, nil
	}
	if err != nil {
		return nil, err
	}
	b := appendHeader([]byte{'{'}, g.revision(resp.Header))
	b = appendLeaseID(b, resp.ID)
	b = append(b, `,"TTL":`...)
	b = appendInt(b, resp.TTL)
	b = append(b, `,"grantedTTL":`...)
	b = appendInt(b, resp.GrantedTTL)
	if keys {
		b = append(b, `,"keys":[`...)
		for i, key := range resp.Keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendBase64(b, key)
		}
		b = append(b, ']')
	}
	return append(b, '}'), nil
}

// leaseLeases answers /v3/lease/leases and /v3/kv/lease/leases.
func (g *Gateway) leaseLeases(ctx context.Context, _ object) ([]byte, error) {
	resp, err := g.cfg.Lessor.LeaseLeases(ctx)
	if err != nil {
		return nil, err
	}
	b := appendHeader([]byte{'{'}, g.revision(resp.Header))
	b = append(b, `,"leases":[`...)
	for i, l := range resp.Leases {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"ID":"`...)
		b = append(b, formatLease(l.ID)...)
		b = append(b, `"}`...)
	}
	return append(b, "]}"...), nil
}

// kvCompaction answers /v3/kv/compaction.
func (g *Gateway) kvCompaction(ctx context.Context, o object) ([]byte, error) {
	d := decoder{object: o}
	revision, physical := d.int64("revision"), d.boolean("physical")
	if d.err != nil {
		return nil, d.err
	}
	now, err := g.cfg.KV.Compact(ctx, revision, physical)
	if err != nil {
		return nil, err
	}
	return append(appendHeader([]byte{'{'}, now), '}'), nil
}
