package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

const (
	// stampBytes of a value say when it was put.
	stampBytes = 8
	// lastEventLimit is how long watchers may take for what is left after the last put.
	lastEventLimit = 30 * time.Second
)

// watching is a measurement of watchers.
type watching struct {
	b     *bench
	start time.Time
	end   []byte // the last key that is put
}

// measureWatch has clients put keys and watchers follow them. It ends when every watcher has seen every put.
func (b *bench) measureWatch(ctx context.Context) (result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &watching{b: b, start: time.Now(), end: []byte(b.prefix + "end")}
	streams := make([]pb.Watch_WatchClient, b.watchers)
	for i := range streams {
		var err error
		if streams[i], err = w.open(ctx, b.conns[i%len(b.conns)]); err != nil {
			return result{}, fmt.Errorf("watch: %w", describe(err))
		}
	}
	w.start = time.Now()
	histograms, ends := make([]histogram, b.watchers), make(chan error, b.watchers)
	for i := range streams {
		go func() { ends <- w.follow(streams[i], &histograms[i]) }()
	}
	puts, err := b.drive(ctx, loadWatch, b.limits(), w.put)
	defer time.AfterFunc(lastEventLimit, cancel).Stop()
	if err == nil { // the watchers end after the last key
		err = describe(putOne(ctx, pb.NewKVClient(b.conns[0]), w.end, make([]byte, stampBytes)))
	}
	if err != nil {
		cancel()
	}
	for range streams {
		if ended := <-ends; err == nil && ended != nil {
			err = fmt.Errorf("watch: %w", describe(ended))
		}
	}
	took := time.Since(w.start)
	all := &histogram{}
	for i := range histograms {
		all.merge(&histograms[i])
	}
	return result{latencies: all, took: took, failed: puts.failed, err: puts.err, puts: puts.latencies.n}, err
}

// open begins a watch of all keys, and returns once the server has it.
func (w *watching) open(ctx context.Context, conn *grpc.ClientConn) (pb.Watch_WatchClient, error) {
	key, end := prefixRange([]byte(w.b.prefix))
	stream, err := startWatch(ctx, conn, &pb.WatchCreateRequest{Key: key, RangeEnd: end})
	if err != nil {
		return nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	return stream, canceled(answer)
}

// put puts a key, with the time in its value.
func (w *watching) put(ctx context.Context, kv pb.KVClient, n int64) error {
	if !w.b.newKeys {
		n = rand.Int64N(int64(w.b.keys))
	}
	value := randomValue(w.b.size)
	binary.BigEndian.PutUint64(value, uint64(time.Since(w.start)))
	return putOne(ctx, kv, w.b.key(n), value)
}

// follow takes events until that of the last key.
func (w *watching) follow(stream pb.Watch_WatchClient, h *histogram) error {
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := canceled(answer); err != nil {
			return err
		}
		now := time.Since(w.start)
		for _, e := range answer.GetEvents() {
			kv := e.GetKv()
			if bytes.Equal(kv.GetKey(), w.end) {
				return nil
			}
			if value := kv.GetValue(); len(value) >= stampBytes {
				h.add(now - time.Duration(binary.BigEndian.Uint64(value)))
			}
		}
	}
}
