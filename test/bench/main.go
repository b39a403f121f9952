package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

type config struct {
	endpoint, load     string
	pid, clients, size int
	duration, warmUp   time.Duration
}

func main() {
	var c config
	flag.StringVar(&c.endpoint, "endpoint", "127.0.0.1:2379", "server, without TLS")
	flag.StringVar(&c.load, "load", "put", "put, overwrite, get or page")
	flag.IntVar(&c.pid, "pid", 0, "process id of the server, for its CPU time; 0: not reported")
	flag.IntVar(&c.clients, "clients", 100, "concurrent clients")
	flag.IntVar(&c.size, "size", 256, "bytes of a value")
	flag.DurationVar(&c.duration, "duration", 10*time.Second, "measured time")
	flag.DurationVar(&c.warmUp, "warm-up", 2*time.Second, "time before it")
	flag.Parse()
	if err := run(c); err != nil {
		log.Fatal(err)
	}
}

// clientsPerConnection share one connection, as etcd's own benchmark does it.
const clientsPerConnection = 10

func run(c config) error {
	conns := make([]pb.KVClient, 0, c.clients/clientsPerConnection+1)
	for range (c.clients + clientsPerConnection - 1) / clientsPerConnection {
		conn, err := grpc.NewClient(c.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		defer conn.Close()
		conns = append(conns, pb.NewKVClient(conn))
	}
	op, err := operation(c)
	if err != nil {
		return err
	}
	if c.load != "put" {
		if err := prepare(conns[0], c); err != nil {
			return err
		}
	}
	if _, _, err := drive(conns, c, op, c.warmUp); err != nil {
		return err
	}
	before := cpuTime(c.pid)
	latencies, took, err := drive(conns, c, op, c.duration)
	if err != nil {
		return err
	}
	report(c, latencies, took, cpuTime(c.pid)-before)
	return nil
}

// prepare writes the keys that reads and overwrites look for.
func prepare(kv pb.KVClient, c config) error {
	for i := range preparedKeys {
		if _, err := kv.Txn(context.Background(), putTxn(preparedKey(i), c.size)); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	return nil
}

const preparedKeys = 1000

func preparedKey(i int) string { return fmt.Sprintf("/bench/fixed/%06d", i) }

func putTxn(key string, size int) *pb.TxnRequest {
	put := &pb.PutRequest{Key: []byte(key), Value: make([]byte, size)}
	return &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: put}}}}
}

// operation gives the function that does the n-th operation.
func operation(c config) (func(ctx context.Context, kv pb.KVClient, n int64) error, error) {
	run := time.Now().UnixNano()
	switch c.load {
	case "put":
		return func(ctx context.Context, kv pb.KVClient, n int64) error {
			_, err := kv.Txn(ctx, putTxn(fmt.Sprintf("/bench/%d/%010d", run, n), c.size))
			return err
		}, nil
	case "overwrite":
		return func(ctx context.Context, kv pb.KVClient, n int64) error {
			_, err := kv.Txn(ctx, putTxn(preparedKey(int(n%preparedKeys)), c.size))
			return err
		}, nil
	case "get":
		return func(ctx context.Context, kv pb.KVClient, n int64) error {
			_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte(preparedKey(int(n % preparedKeys)))})
			return err
		}, nil
	case "page":
		return func(ctx context.Context, kv pb.KVClient, n int64) error {
			_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("/bench/fixed/"), RangeEnd: []byte("/bench/fixed0"), Limit: 500})
			return err
		}, nil
	}
	return nil, fmt.Errorf("unknown load %q", c.load)
}

// drive runs the clients for a time and returns the latency of every operation.
func drive(conns []pb.KVClient, c config, op func(context.Context, pb.KVClient, int64) error, d time.Duration) ([]time.Duration, time.Duration, error) {
	var next atomic.Int64
	next.Store(time.Now().UnixNano() % 1e9)
	results := make([][]time.Duration, c.clients)
	errs := make([]error, c.clients)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range c.clients {
		wg.Go(func() {
			kv := conns[i%len(conns)]
			for {
				begin := time.Now()
				if begin.Sub(start) >= d {
					return
				}
				if errs[i] = op(context.Background(), kv, next.Add(1)); errs[i] != nil {
					return
				}
				results[i] = append(results[i], time.Since(begin))
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	for _, err := range errs {
		if err != nil {
			return nil, 0, fmt.Errorf("operation: %w", err)
		}
	}
	all := slices.Concat(results...)
	slices.Sort(all)
	return all, took, nil
}

func report(c config, latencies []time.Duration, took, cpu time.Duration) {
	n := len(latencies)
	if n == 0 {
		fmt.Println("no operation ended")
		return
	}
	at := func(p float64) time.Duration { return latencies[min(n-1, int(p*float64(n)))].Round(time.Microsecond) }
	fmt.Printf("%-10s clients %4d  ops/s %8.0f  p50 %8s  p99 %8s  p99.9 %8s", c.load, c.clients,
		float64(n)/took.Seconds(), at(0.5), at(0.99), at(0.999))
	if c.pid > 0 {
		fmt.Printf("  server CPU/op %6.1f us", float64(cpu.Microseconds())/float64(n))
	}
	fmt.Println()
}

// ticksPerSecond is the unit of times in /proc on Linux.
const ticksPerSecond = 100

// cpuTime is user and system time of a process so far, 0 if it is not known.
func cpuTime(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is the name in parentheses, which may hold spaces.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}
