package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// exported writes a source and returns the bytes of the file.
func exported(t testing.TB, src Source) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	_, err := WriteEtcdDB(context.Background(), path, src)
	ok(t, err)
	b, err := os.ReadFile(path)
	ok(t, err)
	return b
}

func read(b []byte, opts ReadOptions) (*memory, Summary, error) {
	m := &memory{}
	s, err := readEtcd(context.Background(), bytes.NewReader(b), int64(len(b)), m, opts)
	return m, s, err
}

// compactions are the revisions that a history of 60 is compacted to in tests.
var compactions = []sqllog.Revision{0, 1, 2, 20, 45, 60, 61}

func TestEtcdRoundTrip(t *testing.T) {
	for seed, compact := range compactions {
		m := random(t, uint64(seed), 60, compact)
		path := filepath.Join(t.TempDir(), "db")
		wrote, err := WriteEtcdDB(context.Background(), path, m)
		ok(t, err)
		got := &memory{}
		s, err := ReadEtcdDB(context.Background(), path, got, ReadOptions{})
		ok(t, err)
		wantHistory(t, got, m)
		if s.Revision != 61 || s.CompactRevision != compact || len(s.Warnings) > 0 ||
			wrote.Keys != s.Keys || wrote.Changes != s.Changes || wrote.Leases != s.Leases || wrote.Revision != s.Revision {
			t.Fatalf("compacted %d: wrote %+v, read %+v", compact, wrote, s)
		}
		if mode := must(os.Stat(path)).Mode(); mode.Perm() != 0o600 {
			t.Fatalf("the file has mode %v", mode)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What of the garbage is removed already, and where the compaction is recorded,
// makes no difference.
func TestExportDoesNotDependOnScrub(t *testing.T) {
	for seed, compact := range compactions[2:] {
		m := random(t, uint64(seed), 60, compact)
		want := exported(t, m)
		var text bytes.Buffer
		must(WriteJSON(context.Background(), &text, m, JSONOptions{History: true}))
		for name, other := range map[string]*memory{
			"partly": m.scrubbed(10), "scrubbed": m.scrubbed(1 << 30), "compact row": m.withCompactRow(),
			"compact row, partly": m.scrubbed(7).withCompactRow(),
		} {
			if !bytes.Equal(exported(t, other), want) {
				t.Errorf("compacted %d, %s: the database differs", compact, name)
			}
			var otherText bytes.Buffer
			must(WriteJSON(context.Background(), &otherText, other, JSONOptions{History: true}))
			if !bytes.Equal(otherText.Bytes(), text.Bytes()) {
				t.Errorf("compacted %d, %s: the JSON differs", compact, name)
			}
		}
	}
}

// A delete at the compacted revision is exported from its row where the
// compaction does not name it.
func TestDeletesThatTheCompactionDoesNotName(t *testing.T) {
	m := &memory{}
	for seed := uint64(0); len(m.compaction.Deleted) == 0; seed++ {
		m = random(t, seed, 60, 20)
	}
	want := exported(t, m)
	m.compaction.Deleted = m.compaction.Deleted[1:]
	if !bytes.Equal(exported(t, m), want) {
		t.Fatal("the database differs")
	}
}

// Through a loader and the index, HashKV is the same at every revision.
func TestHashKVIsKept(t *testing.T) {
	ctx := context.Background()
	for seed, compact := range compactions {
		m := random(t, uint64(seed)+50, 60, compact)
		want := load(t, func(sink Sink) error {
			ok(t, sink.Add(m.rows))
			return sink.Finish(m.head, m.compaction)
		})
		b := exported(t, m.scrubbed(5))
		got := load(t, func(sink Sink) error {
			_, err := readEtcd(ctx, bytes.NewReader(b), int64(len(b)), sink, ReadOptions{})
			return err
		})
		for rev := max(int64(compact), 1); rev <= 61; rev++ {
			w, g := must(want.HashKV(ctx, rev)), must(got.HashKV(ctx, rev))
			if w.Hash != g.Hash || w.CompactRevision != g.CompactRevision {
				t.Fatalf("compacted %d: HashKV(%d) is %v, want %v", compact, rev, g, w)
			}
		}
		if g, w := got.Leases().Leases, want.Leases().Leases; len(g) != len(w) {
			t.Fatalf("%d leases, want %d", len(g), len(w))
		}
	}
}

// load opens the index over a new log.
func load(t *testing.T, fill func(Sink) error) *mvcc.Store {
	t.Helper()
	cfg := sqllog.Config{Path: filepath.Join(t.TempDir(), "log.db")}
	l, err := sqllog.NewLoader(context.Background(), cfg)
	ok(t, err)
	ok(t, fill(l))
	log, err := sqllog.Open(context.Background(), cfg)
	ok(t, err)
	store, err := mvcc.Open(context.Background(), log, mvcc.Config{})
	ok(t, err)
	t.Cleanup(func() {
		store.Close()
		ok(t, log.Close())
	})
	return store
}

func TestExportIsAConsistentDatabase(t *testing.T) {
	b := exported(t, random(t, 1, 3000, 100))
	if len(b)%sectorSize != checksumSize {
		t.Fatalf("%d bytes", len(b))
	}
	body := b[:len(b)-checksumSize]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		t.Fatal("the checksum is wrong")
	}
	path := filepath.Join(t.TempDir(), "db")
	ok(t, os.WriteFile(path, body, 0o600))
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	ok(t, err)
	defer db.Close()
	ok(t, db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		for _, name := range etcdBuckets {
			if tx.Bucket([]byte(name)) == nil {
				return fmt.Errorf("no bucket %s", name)
			}
		}
		return nil
	}))
}

func TestWriteLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	m := random(t, 1, 100, 10)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := WriteEtcdDB(ctx, path, m); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wantFiles(t, dir)
	must(WriteEtcdDB(context.Background(), path, m))
	before := must(os.ReadFile(path))
	if _, err := WriteEtcdDB(context.Background(), path, random(t, 2, 5, 0)); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	wantFiles(t, dir, "db")
	if !bytes.Equal(must(os.ReadFile(path)), before) {
		t.Fatal("the file that was there has changed")
	}
}

func TestReadPassesErrorsOn(t *testing.T) {
	b := exported(t, random(t, 1, 100, 10))
	sink := &memory{fail: errOrder}
	if _, err := readEtcd(context.Background(), bytes.NewReader(b), int64(len(b)), sink, ReadOptions{}); !errors.Is(err, errOrder) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := readEtcd(ctx, bytes.NewReader(b), int64(len(b)), &memory{}, ReadOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := ReadEtcdDB(context.Background(), filepath.Join(t.TempDir(), "none"), sink, ReadOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// PrevRevision is exact where the input has it.
func TestPrevRevisions(t *testing.T) {
	m := &memory{}
	b := newBuilder(context.Background(), m, 5)
	for _, c := range []struct {
		rev, create, version int64
		key                  string
		want                 sqllog.Revision
	}{
		{3, 2, 2, "a", 2}, // the value before was the one that created the key
		{4, 2, 3, "b", 0}, // it is not known
		{5, 5, 1, "c", 0},
		{6, 2, 3, "a", 3},
		{7, 0, 0, "a", 6},
		{8, 8, 1, "a", 0},
	} {
		kv := &mvccpb.KeyValue{Key: []byte(c.key), CreateRevision: c.create, ModRevision: c.rev, Version: c.version}
		ok(t, b.addChange(change{rev: sqllog.Revision(c.rev), deleted: c.version == 0, kv: kv}))
		ok(t, b.flush())
		if r := m.rows[len(m.rows)-1]; r.PrevRevision != c.want {
			t.Errorf("%+v: previous revision %d", c, r.PrevRevision)
		}
	}
}

// edited makes a database and changes it by bbolt; the checksum is left out.
func edited(t *testing.T, edit func(*bolt.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	sv, err := takeSurvey(context.Background(), random(t, 1, 20, 5), false)
	ok(t, err)
	must(writeDB(context.Background(), path, sv))
	db, err := bolt.Open(path, 0o600, nil)
	ok(t, err)
	ok(t, db.Update(edit))
	ok(t, db.Close())
	return must(os.ReadFile(path))
}

func putIn(bucket string, k, v []byte) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).Put(k, v) }
}

func stored(kv *mvccpb.KeyValue) []byte { return must(proto.Marshal(kv)) }

func TestOddDatabases(t *testing.T) {
	at := func(rev sqllog.Revision, deleted bool) []byte { return appendRevision(nil, rev, 0, deleted) }
	kv := func(mod int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte("k"), CreateRevision: 2, ModRevision: mod, Version: 1}
	}
	for name, c := range map[string]struct {
		edit func(*bolt.Tx) error
		want error
		text string
	}{
		"nothing odd":      {func(*bolt.Tx) error { return nil }, nil, ""},
		"no key bucket":    {func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(bucketKey)) }, ErrForeign, "bucket"},
		"etcd 4":           {putIn(bucketMeta, []byte(metaVersion), []byte("4.0.0")), ErrNewer, "4.0.0"},
		"no version":       {putIn(bucketMeta, []byte(metaVersion), []byte("x")), ErrDamaged, "version"},
		"bad compaction":   {putIn(bucketMeta, []byte(metaFinished), []byte("12345678")), ErrDamaged, "revision"},
		"bad revision":     {putIn(bucketKey, []byte("zzz"), nil), ErrDamaged, "revision"},
		"huge revision":    {putIn(bucketKey, append(bytes.Repeat([]byte{0xff}, 8), "_12345678"...), nil), ErrDamaged, "range"},
		"no protobuf":      {putIn(bucketKey, at(99, false), []byte{0xff}), ErrDamaged, "99"},
		"other revision":   {putIn(bucketKey, at(99, false), stored(kv(98))), ErrDamaged, "98"},
		"no version of kv": {putIn(bucketKey, at(99, false), stored(&mvccpb.KeyValue{Key: []byte("k"), ModRevision: 99, CreateRevision: 9})), ErrDamaged, "version 0"},
		"no key":           {putIn(bucketKey, at(99, true), nil), ErrDamaged, "no key"},
		"unknown field":    {putIn(bucketKey, at(99, false), append(stored(kv(99)), 0xf8, 0x01, 1)), ErrNewer, "99"},
		"lease elsewhere":  {putIn(bucketLease, appendLeaseKey(nil, 77), appendLease(nil, 78, 1)), ErrDamaged, "lease"},
		"lease without id": {putIn(bucketLease, appendLeaseKey(nil, 0), nil), ErrDamaged, "no id"},
		"lease cut":        {putIn(bucketLease, appendLeaseKey(nil, 77), []byte{8}), ErrDamaged, "cut short"},
		"nested bucket": {func(tx *bolt.Tx) error {
			_, err := tx.Bucket([]byte(bucketKey)).CreateBucket([]byte("nested"))
			return err
		}, ErrDamaged, "bucket"},
		"auth": {putIn(bucketAuth, []byte(authEnabled), []byte{1}), ErrAuth, ""},
	} {
		m, _, err := read(edited(t, c.edit), ReadOptions{})
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
		if m.finished != (err == nil) {
			t.Errorf("%s: the sink was finished: %v", name, m.finished)
		}
	}
}

func TestWhatIsDroppedIsSaid(t *testing.T) {
	b := edited(t, func(tx *bolt.Tx) error {
		return errors.Join(putIn(bucketAuth, []byte(authEnabled), []byte{1})(tx), putIn(bucketUsers, []byte("root"), []byte{1})(tx),
			putIn(bucketRoles, []byte("root"), []byte{1})(tx), putIn(bucketAlarm, []byte("x"), nil)(tx),
			putIn(bucketKey, appendRevision(nil, 900, 0, false), nil)(tx),
			putIn(bucketMeta, []byte(metaScheduled), appendRevision(nil, 900, 0, false))(tx))
	})
	m, s, err := read(b, ReadOptions{DropAuth: true})
	ok(t, err)
	for i, want := range []string{"authentication", "authUsers", "authRoles", "alarm", "revision 900"} {
		if i >= len(s.Warnings) || !strings.Contains(s.Warnings[i], want) {
			t.Errorf("warning %d of %q does not name %s", i, s.Warnings, want)
		}
	}
	if m.head.Revision != 900 || m.compaction.Revision != 900 || s.Revision != 900 {
		t.Errorf("a bump of the revision gives head %+v, %+v", m.head, s)
	}
}

// A compaction that etcd had begun is in force, and what it had not removed yet
// is left to kinsy.
func TestUnfinishedCompaction(t *testing.T) {
	b := edited(t, putIn(bucketMeta, []byte(metaScheduled), appendRevision(nil, 15, 0, false)))
	m, s, err := read(b, ReadOptions{})
	ok(t, err)
	if m.compaction.Revision != 15 || s.CompactRevision != 15 {
		t.Fatalf("%+v", m.compaction)
	}
	want := random(t, 1, 20, 15)
	if !bytes.Equal(exported(t, m), exported(t, want)) {
		t.Fatal("the history differs from one compacted to the same revision")
	}
}

func TestEmptyDatabase(t *testing.T) {
	m := &memory{head: sqllog.Head{Revision: 1}}
	got, s, err := read(exported(t, m), ReadOptions{})
	ok(t, err)
	if got.head != m.head || s.Revision != 1 || s.Keys != 0 {
		t.Fatalf("head %+v, %+v", got.head, s)
	}
	m = &memory{head: sqllog.Head{ID: 7, Epoch: 2, Revision: 9}, compaction: sqllog.Compaction{
		Revision: 9, Deleted: []sqllog.DeletedKey{{Sub: 0, Key: []byte("a")}},
	}}
	got, s, err = read(exported(t, m), ReadOptions{})
	ok(t, err)
	if got.head.Revision != 9 || s.CompactRevision != 9 || len(got.compaction.Deleted) != 1 || len(got.rows) != 1 {
		t.Fatalf("%+v, rows %+v", s, got.rows)
	}
	m.compaction.Deleted = nil
	got, _, err = read(exported(t, m), ReadOptions{})
	ok(t, err)
	if want := (sqllog.Head{ID: 1, Epoch: 1, Revision: 9}); got.head != want {
		t.Fatalf("head %+v of a history whose rows are all gone, want %+v", got.head, want)
	}
}

func TestForeignFiles(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": {}, "text": []byte("hello"), "zeros": make([]byte, 64<<10),
		"sqlite": append([]byte("SQLite format 3\x00"), make([]byte, 8192-16)...),
	} {
		if _, _, err := read(b, ReadOptions{}); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkWriteEtcdDB(b *testing.B) {
	m := big(b)
	for b.Loop() {
		must(WriteEtcdDB(context.Background(), filepath.Join(b.TempDir(), "db"), m))
	}
	b.ReportMetric(float64(len(m.rows)*b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkReadEtcdDB(b *testing.B) {
	m := big(b)
	file := exported(b, m)
	for b.Loop() {
		_, err := readEtcd(context.Background(), bytes.NewReader(file), int64(len(file)), discard{}, ReadOptions{})
		ok(b, err)
	}
	b.ReportMetric(float64(len(m.rows)*b.N)/b.Elapsed().Seconds(), "rows/s")
}

// discard is a sink that keeps nothing.
type discard struct{}

func (discard) Add([]sqllog.Row) error                      { return nil }
func (discard) Finish(sqllog.Head, sqllog.Compaction) error { return nil }

// big has 100,000 keys of 256 bytes.
func big(t testing.TB) *memory {
	t.Helper()
	m := &memory{}
	b := newBuilder(context.Background(), m, 0)
	for rev := range int64(100_000) {
		ok(t, b.addChange(change{rev: sqllog.Revision(rev + 2), kv: &mvccpb.KeyValue{
			Key: fmt.Appendf(nil, "/registry/pods/%08d", rev), Value: bytes.Repeat([]byte("value \n"), 37),
			CreateRevision: rev + 2, ModRevision: rev + 2, Version: 1,
		}}))
	}
	must(b.finish(0))
	return m
}
