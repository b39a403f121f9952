package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// operation does the n-th operation, from 0.
type operation func(ctx context.Context, kv pb.KVClient, n int64) error

func (b *bench) key(n int64) []byte { return fmt.Appendf(nil, "%s%010d", b.prefix, n) }

// operation returns that of the load.
func (b *bench) operation() operation {
	value := randomValue(b.size)
	put := func(ctx context.Context, kv pb.KVClient, n int64) error {
		if !b.newKeys {
			n = rand.Int64N(int64(b.keys))
		} else if b.load == loadMixed {
			n += int64(b.keys)
		}
		return putOne(ctx, kv, b.key(n), value)
	}
	get := func(ctx context.Context, kv pb.KVClient, _ int64) error {
		_, err := kv.Range(ctx, &pb.RangeRequest{Key: b.key(rand.Int64N(int64(b.keys))), Serializable: b.serializable})
		return err
	}
	switch b.load {
	case loadRange:
		return get
	case loadMixed:
		return func(ctx context.Context, kv pb.KVClient, n int64) error {
			if rand.IntN(100) < b.readPercent {
				return get(ctx, kv, n)
			}
			return put(ctx, kv, n)
		}
	}
	return put
}

func putOne(ctx context.Context, kv pb.KVClient, key, value []byte) error {
	_, err := kv.Txn(ctx, one(putOp(&pb.PutRequest{Key: key, Value: value})))
	return err
}

// randomValue makes a value that nothing compresses.
func randomValue(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// prepare puts the keys that reads look for.
func (b *bench) prepare(ctx context.Context) error {
	value := randomValue(b.size)
	r, err := b.drive(ctx, "preparing", limits{total: int64(b.keys)}, func(ctx context.Context, kv pb.KVClient, n int64) error {
		return putOne(ctx, kv, b.key(n), value)
	})
	return firstFailure("prepare keys", r, err)
}

func firstFailure(what string, r result, err error) error {
	if err == nil && r.failed > 0 {
		err = describe(r.err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// cleanLimit is how long the removal of the keys may take after an interruption, too.
const cleanLimit = 5 * time.Minute

// clean deletes the keys: in one Txn, or one by one where the server does not take that.
func (b *bench) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanLimit)
	defer cancel()
	key, end := prefixRange([]byte(b.prefix))
	_, _, err := b.del(ctx, &pb.DeleteRangeRequest{Key: key, RangeEnd: end})
	if status.Code(err) != codes.InvalidArgument {
		return cleaning(err)
	}
	var keys [][]byte
	err = b.pages(ctx, &pb.RangeRequest{Key: key, RangeEnd: end, KeysOnly: true}, func(page *pb.RangeResponse, _ int64) error {
		for _, kv := range page.GetKvs() {
			keys = append(keys, kv.GetKey())
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return cleaning(err)
	}
	r, err := b.drive(ctx, "removing", limits{total: int64(len(keys))}, func(ctx context.Context, kv pb.KVClient, n int64) error {
		_, err := kv.Txn(ctx, one(deleteOp(&pb.DeleteRangeRequest{Key: keys[n]})))
		return err
	})
	b.line.Clear()
	return firstFailure("remove the keys of the measurement", r, err)
}

func cleaning(err error) error {
	if err != nil {
		return fmt.Errorf("remove the keys of the measurement: %w", err)
	}
	return nil
}
