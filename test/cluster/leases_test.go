package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/load"
	"github.com/kinsy/kinsy/test/harness/registers"
)

const (
	leaseTTL   = 5 // seconds
	leaseEvery = 300 * time.Millisecond
)

// errLeaseLost says that a lease ended before its time.
var errLeaseLost = errors.New("a lease ended too early")

// holder keeps one lease with one key alive, through one node, and takes another when it has ended.
type holder struct {
	client *clientv3.Client
	key    string
	id     clientv3.LeaseID // 0: none
	until  time.Time        // it must not end before
	ended  int              // leases that did
}

// newHolders makes a holder for each client. Their keys are registers that nobody else uses.
func newHolders(clients []*clientv3.Client) (list []*holder) {
	for i, c := range clients {
		list = append(list, &holder{client: c, key: fmt.Sprintf("%slease-%d", registers.Prefix, i)})
	}
	return list
}

// startHolders lets them work until the load is stopped.
func startHolders(ctx context.Context, l *load.Load, holders []*holder) {
	var list []load.Client
	for _, h := range holders {
		list = append(list, load.Client{Name: "holder of " + h.key, One: h.one, Pause: func(ctx context.Context) { _ = client.Wait(ctx, leaseEvery) }})
	}
	l.Start(ctx, list...)
}

// one keeps the lease alive, or takes one. Its time begins when the request is sent, at the latest.
func (h *holder) one(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, client.Patience)
	defer cancel()
	sent := time.Now()
	if h.id == 0 {
		return h.take(ctx, sent)
	}
	resp, err := h.client.KeepAliveOnce(ctx, h.id)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound) && time.Now().Before(h.until):
		return fmt.Errorf("%w: %x is not found %s before", errLeaseLost, h.id, time.Until(h.until))
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		h.id = 0
		h.ended++
		return nil
	case err != nil:
		return err
	}
	h.until = sent.Add(time.Duration(resp.TTL) * time.Second)
	got, err := h.client.Get(ctx, h.key)
	if err == nil && (len(got.Kvs) != 1 || got.Kvs[0].Lease != int64(h.id)) && time.Now().Before(h.until) {
		return fmt.Errorf("%w: %s is %v while lease %x is alive", errLeaseLost, h.key, got.Kvs, h.id)
	}
	return err
}

// take grants a lease and puts the key with it. What it does not know to be done is forgotten, and ends by itself.
func (h *holder) take(ctx context.Context, sent time.Time) error {
	resp, err := h.client.Grant(ctx, leaseTTL)
	if err != nil {
		return err
	}
	if _, err := h.client.Put(ctx, h.key, fmt.Sprintf("%x", resp.ID), clientv3.WithLease(resp.ID)); err != nil {
		if errors.Is(err, rpctypes.ErrLeaseNotFound) && time.Now().Before(sent.Add(leaseTTL*time.Second)) {
			return fmt.Errorf("%w: %x is not found", errLeaseLost, resp.ID)
		}
		return err
	}
	h.id, h.until = resp.ID, sent.Add(leaseTTL*time.Second)
	return nil
}

// gone says which leases are still there; their holders have ended.
func gone(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, client.Patience)
	defer cancel()
	resp, err := c.Leases(ctx)
	if err == nil && len(resp.Leases) > 0 {
		err = fmt.Errorf("%d leases are left", len(resp.Leases))
	}
	return err
}
