package peer

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// put is a valid row.
func put(id sqllog.ID, epoch sqllog.Epoch, value []byte) sqllog.Row {
	return sqllog.Row{
		ID: id, Epoch: epoch, Revision: sqllog.Revision(id) + 1, Kind: sqllog.KindPut, Key: []byte("key"), Value: value,
		CreateRevision: sqllog.Revision(id) + 1, Version: 1, WrittenAt: 1_700_000_000_000,
	}
}

// puts are rows from an id on.
func puts(first sqllog.ID, n int, epoch sqllog.Epoch, value []byte) []sqllog.Row {
	var rows []sqllog.Row
	for i := range n {
		rows = append(rows, put(first+sqllog.ID(i), epoch, value))
	}
	return rows
}

// decode reads the parts of one frame.
func decode(parts []encoded, check *frameChecker) (*Frame, error) {
	f := &Frame{Prev: check.last}
	for i, b := range parts {
		reply := &peerpb.FollowReply{}
		if err := proto.Unmarshal(b, reply); err != nil {
			return nil, err
		}
		more, err := f.add(reply.GetPart(), check)
		if err != nil {
			return nil, err
		}
		if more != (i < len(parts)-1) {
			return nil, errors.New("wrong end")
		}
	}
	return f, nil
}

// TestFramesRoundTrip sets every field of rows of every kind.
func TestFramesRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	bytesOf := func(n int) []byte {
		b := make([]byte, n)
		for i := range min(n, 100) {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	for range 50 {
		prev := elect.Position{ID: sqllog.ID(random.Int64N(1 << 40)), Epoch: sqllog.Epoch(1 + random.Int64N(1<<20))}
		f := &Frame{Prev: prev, Committed: sqllog.ID(random.Int64N(1 << 40))}
		revision := sqllog.Revision(1 + random.Int64N(1<<40))
		epoch := prev.Epoch
		for i := range random.IntN(50) {
			epoch += sqllog.Epoch(random.IntN(2))
			revision += sqllog.Revision(random.IntN(2))
			f.Rows = append(f.Rows, sqllog.Row{
				ID: prev.ID + 1 + sqllog.ID(i), Epoch: epoch, Revision: revision, Sub: random.Int64N(100), Kind: sqllog.Kind(1 + random.IntN(6)),
				Key: bytesOf(1 + random.IntN(100)), Value: bytesOf(1 + random.IntN(40_000)), CreateRevision: revision, PrevRevision: revision - 1,
				Version: 1 + random.Int64N(1<<40), Lease: 1 + random.Int64(), WrittenAt: random.Int64(),
			})
		}
		parts, err := f.encode(DefaultMaxFrameBytes)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(parts, &frameChecker{last: prev, limit: DefaultMaxFrameBytes, maxEpoch: epoch})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Rows, f.Rows) || got.Committed != f.Committed || got.Last() != f.Last() {
			t.Fatalf("%v becomes %v", f, got)
		}
	}
}

// TestNoFieldOfRowsIsForgotten: each is set in the test above, but ValueSize, which the
// log does not keep.
func TestNoFieldOfRowsIsForgotten(t *testing.T) {
	if n := reflect.TypeFor[sqllog.Row]().NumField(); n != 13 {
		t.Errorf("a row has %d fields", n)
	}
}

func TestInvalidFrames(t *testing.T) {
	at := elect.Position{ID: 10, Epoch: 3}
	good := func() []sqllog.Row { return puts(11, 3, 3, nil) }
	for name, change := range map[string]func(f *Frame){
		"gap":               func(f *Frame) { f.Rows[1].ID = 13 },
		"repeated":          func(f *Frame) { f.Rows[1].ID = 11 },
		"does not follow":   func(f *Frame) { f.Rows = f.Rows[1:] },
		"invalid row":       func(f *Frame) { f.Rows[2].Key = nil },
		"epoch goes back":   func(f *Frame) { f.Rows[0].Epoch = 2 },
		"revision":          func(f *Frame) { f.Rows[2].Revision, f.Rows[2].CreateRevision = 2, 2 },
		"committed":         func(f *Frame) { f.Committed = -1 },
		"large row":         func(f *Frame) { f.Rows[0].Value = make([]byte, 1100_000) },
		"larger than limit": func(f *Frame) { f.Rows[1].Value, f.Rows[2].Value = make([]byte, 1<<20), make([]byte, 1<<20) },
	} {
		f := &Frame{Prev: at, Rows: good()}
		change(f)
		if _, err := f.encode(1000); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := &Frame{Prev: at, Rows: good()}
	if _, err := f.encode(1000); err != nil {
		t.Error(err)
	}
}

// TestLargeRevision: a frame of one revision may be larger than others.
func TestLargeRevision(t *testing.T) {
	rows := puts(1, 4, 1, make([]byte, 1<<20))
	for i := range rows {
		rows[i].Revision, rows[i].CreateRevision, rows[i].Sub = 7, 7, int64(i)
	}
	f := &Frame{Rows: rows}
	parts, err := f.encode(1000)
	if err != nil || len(parts) != 4 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	if _, err := decode(parts, &frameChecker{limit: 1000, maxEpoch: 1}); err != nil {
		t.Fatal(err)
	}
	f = &Frame{Rows: append(rows, put(5, 1, nil))}
	f.Rows[4].Revision = 8
	if _, err := f.encode(1000); !errors.Is(err, ErrFrame) {
		t.Errorf("two revisions: %v", err)
	}
}

// FuzzFrame: a reply of any bytes is refused or has only what a log takes.
func FuzzFrame(f *testing.F) {
	frame := &Frame{Prev: elect.Position{ID: 10, Epoch: 3}, Rows: puts(11, 3, 3, []byte("value")), Committed: 12}
	parts, err := frame.encode(DefaultMaxFrameBytes)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(parts[0]))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		reply := &peerpb.FollowReply{}
		if proto.Unmarshal(b, reply) != nil {
			return
		}
		_, _ = decodeOpened(reply.GetOpened(), FollowOpen{Last: elect.Position{ID: 10, Epoch: 3}})
		check := &frameChecker{last: elect.Position{ID: 10, Epoch: 3}, limit: 1000, maxEpoch: 4}
		got := &Frame{Prev: check.last}
		if _, err := got.add(reply.GetPart(), check); err != nil {
			return
		}
		again := &Frame{Prev: got.Prev, Rows: got.Rows, Committed: got.Committed}
		if _, err := again.encode(1000); err != nil {
			t.Errorf("%v is taken and not given: %v", got, err)
		}
		if got.Last().Epoch > 4 {
			t.Errorf("a row of epoch %d", got.Last().Epoch)
		}
	})
}

// FuzzRequests: what a Replica sends is refused or in range.
func FuzzRequests(f *testing.F) {
	b, _ := proto.Marshal(&peerpb.FollowRequest{Request: &peerpb.FollowRequest_Open{Open: &peerpb.FollowOpen{Promised: 3}}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		request := &peerpb.FollowRequest{}
		if proto.Unmarshal(b, request) != nil {
			return
		}
		if o, err := decodeOpen(request.GetOpen()); err == nil && (o.Promised < 0 || o.Last.ID < 0 || o.Last.Epoch < 0) {
			t.Errorf("%v", o)
		}
		s := &followServer{sent: elect.Position{ID: 10}}
		if err := s.take(request.GetReceipt()); err == nil && (s.receipt < 0 || s.receipt > 10) {
			t.Errorf("receipt %d", s.receipt)
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	rows := puts(1, 1000, 1, bytes.Repeat([]byte("v"), 256))
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := (&Frame{Rows: rows}).encode(DefaultMaxFrameBytes); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N*len(rows))/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("decode", func(b *testing.B) {
		parts, err := (&Frame{Rows: rows}).encode(DefaultMaxFrameBytes)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decode(parts, &frameChecker{limit: DefaultMaxFrameBytes, maxEpoch: 1}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N*len(rows))/b.Elapsed().Seconds(), "rows/s")
	})
}
