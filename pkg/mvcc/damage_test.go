package mvcc

import (
	"context"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestDamageFoundByAReadIsRemembered(t *testing.T) {
	d := newDB(t, Config{CacheBytes: -1})
	d.write(put("a", "1"))
	read := func() error {
		_, err := d.store.Range(context.Background(), &pb.RangeRequest{Key: []byte("a")})
		return err
	}
	for _, step := range []struct {
		fails  error
		damage bool
	}{{nil, false}, {sqllog.ErrIO, false}, {sqllog.ErrCorrupt, true}, {nil, true}} {
		d.log.Hook(mvcctest.Hooks{Values: func([]sqllog.ID) error { return step.fails }})
		if err := read(); !errors.Is(err, step.fails) {
			t.Fatalf("read: %v, want %v", err, step.fails)
		}
		if got := d.store.Damage(); (got != nil) != step.damage || (got != nil && !errors.Is(got, sqllog.ErrCorrupt)) {
			t.Fatalf("after %v the damage is %v", step.fails, got)
		}
	}
}
