package mvcc

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"

	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small makes every step end in the middle of something.
var small = limits{
	collectEntries: 3, historyBlock: 4, scrubRecords: 3, dispatchRecords: 3, queueRecords: 4, catchUpRecords: 5, responseBytes: 60,
}

// clock is a clock that tests move.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{now: time.Unix(1_700_000_000, 0)} }

func (c *clock) time() time.Time { return c.now }

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// db is a Store on a log in memory, with the shortest commit pipeline.
type db struct {
	testing.TB
	log   *mvcctest.Log
	store *Store
	cfg   Config
}

func newDB(t testing.TB, cfg Config) *db {
	t.Helper()
	d := &db{TB: t, log: mvcctest.New(), cfg: cfg}
	if d.cfg.Logger == nil {
		d.cfg.Logger = quiet()
	}
	if d.cfg.ProgressInterval == 0 {
		d.cfg.ProgressInterval = -1
	}
	d.open()
	t.Cleanup(func() { d.store.Close() })
	return d
}

func (d *db) open() {
	d.Helper()
	var err error
	if d.store, err = Open(context.Background(), d.log, d.cfg); err != nil {
		d.Fatal(err)
	}
}

func (d *db) reopen() {
	d.Helper()
	d.store.Close()
	d.log = d.log.Reopen()
	d.open()
}

// commit makes a batch durable and publishes it.
func (d *db) commit(b *Batch) {
	d.Helper()
	if err := d.log.Append(b.Rows); err != nil {
		d.Fatal(err)
	}
	d.store.Publish(b)
}

// write evaluates a Txn of operations and commits it.
func (d *db) write(ops ...*pb.RequestOp) *pb.TxnResponse {
	d.Helper()
	b := &Batch{}
	a, err := d.store.EvaluateTxn(context.Background(), b, &pb.TxnRequest{Success: ops})
	if err != nil {
		d.Fatal(err)
	}
	d.commit(b)
	resp, err := a.Complete(context.Background())
	if err != nil {
		d.Fatal(err)
	}
	return resp
}

func (d *db) grant(id, ttl int64) {
	d.Helper()
	b := &Batch{}
	if _, err := d.store.EvaluateGrant(b, &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
		d.Fatal(err)
	}
	d.commit(b)
}

func (d *db) revoke(id int64) int64 {
	d.Helper()
	b := &Batch{}
	rev, err := d.store.EvaluateRevoke(b, id)
	if err != nil {
		d.Fatal(err)
	}
	d.commit(b)
	return rev
}

// compact compacts without scrubbing.
func (d *db) compact(rev int64) {
	d.Helper()
	b := &Batch{}
	if err := d.store.EvaluateCompact(b, rev); err != nil {
		d.Fatal(err)
	}
	d.commit(b)
}

func (d *db) scrub() {
	d.Helper()
	if err := d.store.Scrub(nil, func() int { return 3 }, d.log.Remove); err != nil {
		d.Fatal(err)
	}
}

func (d *db) rows() []sqllog.Row {
	d.Helper()
	var rows []sqllog.Row
	err := d.log.Scan(context.Background(), 0, 1<<62, func(r *sqllog.Row) error {
		rows = append(rows, *r)
		return nil
	})
	if err != nil {
		d.Fatal(err)
	}
	return rows
}

func opPut(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func put(key, value string) *pb.RequestOp {
	return opPut(&pb.PutRequest{Key: []byte(key), Value: []byte(value)})
}

func leased(key string, lease int64) *pb.RequestOp {
	return opPut(&pb.PutRequest{Key: []byte(key), Value: []byte("v"), Lease: lease})
}

func del(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func opRange(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func opTxn(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}
