package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

var errLeaseID = errorf(http.StatusBadRequest, "ID should be 16 hex digits or a decimal number")

// leaseGrant answers /v3/lease/grant. TTL is answered in the type it came in.
func (g *Gateway) leaseGrant(ctx context.Context, o object) ([]byte, error) {
	id, err := o.leaseID("ID")
	if err != nil {
		return nil, errLeaseID
	}
	ttl, err := o.int64("TTL")
	if err != nil {
		return nil, err
	}
	if ttl <= 0 {
		return nil, badField("TTL", "a number of seconds above 0")
	}
	resp, err := g.cfg.Lessor.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
	if err != nil {
		return nil, err
	}
	b := appendHeader([]byte{'{'}, g.revision(resp.Header))
	b = appendLeaseID(b, resp.ID)
	b = append(b, `,"TTL":`...)
	if raw := o.get("TTL"); raw[0] == '"' {
		b = append(strconv.AppendInt(append(b, '"'), resp.TTL, 10), '"')
	} else {
		b = appendInt(b, resp.TTL)
	}
	return append(b, '}'), nil
}

// leaseKeepAlive answers /v3/lease/keepalive. The revision is taken before, so that
// a client never sees its lease alive at a revision at which it was gone.
func (g *Gateway) leaseKeepAlive(ctx context.Context, o object) ([]byte, error) {
	id, err := knownLease(o)
	if err != nil {
		return nil, err
	}
	revision := g.cfg.Watcher.Revision()
	ttl, err := g.cfg.Lessor.LeaseKeepAlive(ctx, id)
	if err != nil {
		return nil, err
	}
	if ttl <= 0 {
		return nil, errUnknownLease
	}
	b := appendHeader([]byte(`{"result":{`), revision)
	b = appendLeaseID(b, id)
	b = append(b, `,"TTL":"`...)
	b = strconv.AppendInt(b, ttl, 10)
	return append(b, `"}}`...), nil
}

// leaseRevoke answers /v3/lease/revoke and /v3/kv/lease/revoke.
func (g *Gateway) leaseRevoke(ctx context.Context, o object) ([]byte, error) {
	id, err := knownLease(o)
	if err != nil {
		return nil, err
	}
	resp, err := g.cfg.Lessor.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
	if err != nil {
		return nil, err
	}
	return append(appendHeader([]byte{'{'}, g.revision(resp.Header)), '}'), nil
}

// knownLease returns the id of a lease that may be known.
func knownLease(o object) (int64, error) {
	id, err := o.leaseID("ID")
	var bad *badLease
	switch {
	case errors.As(err, &bad), err == nil && id == 0:
		return 0, errUnknownLease
	}
	return id, err
}

func appendLeaseID(b []byte, id int64) []byte {
	b = append(b, `,"ID":"`...)
	b = append(b, formatLease(id)...)
	return append(b, '"')
}

// revision is that of a header, or the current one if it has none.
func (g *Gateway) revision(h *pb.ResponseHeader) int64 {
	if r := h.GetRevision(); r != 0 {
		return r
	}
	return g.cfg.Watcher.Revision()
}
