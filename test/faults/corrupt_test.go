package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/process"
)

const dbPage = 4096 // bytes of a page of the database file

// sample is a database file of a store that ended in order, and what the store held.
type sample struct {
	db    []byte
	shown map[string]history.Record
}

// takeSample makes a store with history and values of several pages.
func takeSample(t *testing.T) sample {
	t.Helper()
	dir := t.TempDir()
	p := newPatient(t, dir, process.ProfileEtcd)
	s := newSquad("sample", 16, p.Clients(t, 4), *flagSeed, true)
	s.Start(t.Context())
	ok(t, s.Await(t.Context(), 1500))
	p.take(s.End(1))
	p.examine(t)
	head, err := history.Revision(t.Context(), p.client)
	ok(t, err)
	shown, err := history.ReadAll(t.Context(), p.client, "", head)
	ok(t, err)
	_, err = p.Proc.Terminate(stopLimit)
	ok(t, err)
	db, err := os.ReadFile(p.Database())
	ok(t, err)
	return sample{db: db, shown: shown}
}

// damages are those that a store must find at its start.
var damages = map[string]func(db []byte, rng *rand.Rand) []byte{
	"half the file is gone":      func(db []byte, _ *rand.Rand) []byte { return db[:len(db)/2/dbPage*dbPage] },
	"the file ends in a page":    func(db []byte, _ *rand.Rand) []byte { return db[:len(db)*2/3/dbPage*dbPage+1000] },
	"the last page is gone":      func(db []byte, _ *rand.Rand) []byte { return db[:len(db)-dbPage] },
	"only the header is left":    func(db []byte, _ *rand.Rand) []byte { return db[:100] },
	"half of the header is left": func(db []byte, _ *rand.Rand) []byte { return db[:50] },
	"a random header":            func(db []byte, rng *rand.Rand) []byte { return scramble(db, 0, 100, rng) },
	"a random first page":        func(db []byte, rng *rand.Rand) []byte { return scramble(db, 100, dbPage, rng) },
	"a zero first page": func(db []byte, _ *rand.Rand) []byte {
		clear(db[:dbPage])
		return db
	},
	"random from the middle on": func(db []byte, rng *rand.Rand) []byte { return scramble(db, len(db)/2, len(db), rng) },
}

func scramble(db []byte, from, to int, rng *rand.Rand) []byte {
	for i := from; i < to; i++ {
		db[i] = byte(rng.Uint32())
	}
	return db
}

// TestDamagedDatabaseIsRefusedAndLeftAlone starts a store on a damaged file. It must end with a message that says what is
// still readable, and change nothing.
func TestDamagedDatabaseIsRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	s := takeSample(t)
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			bad := damage(bytes.Clone(s.db), rand.New(rand.NewPCG(*flagSeed, 6)))
			n := s.put(t, bad)
			for range 2 { // the second start must find what the first has found
				err := n.Start()
				if !errors.Is(err, process.ErrEnded) {
					t.Fatalf("start ended with %v", err)
				}
				requireRefusal(t, n, bad)
			}
			ok(t, os.WriteFile(n.Database(), s.db, 0o600))
			ok(t, n.Start())
			ok(t, s.compare(t.Context(), n.Client(t), nil))
		})
	}
}

// put writes a database file into a folder of its own.
func (s sample) put(t *testing.T, db []byte) *process.Node {
	t.Helper()
	n := newNode(t, t.TempDir(), process.ProfileEtcd)
	ok(t, os.WriteFile(n.Database(), db, 0o600))
	return n
}

// requireRefusal checks how a store that found its file damaged has ended.
func requireRefusal(t *testing.T, n *process.Node, bad []byte) {
	t.Helper()
	process.RequireNoPanic(t, n.Proc)
	out := n.Proc.Output()
	if code := n.Proc.ExitCode(); code <= 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"corrupt", n.Database(), "readable rows from the start", "what to do"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in the message:\n%s", want, out)
		}
	}
	now, err := os.ReadFile(n.Database())
	ok(t, err)
	if !bytes.Equal(now, bad) {
		t.Error("the damaged file was changed")
	}
	if exists(n.Database() + "-wal") {
		t.Error("a write-ahead log was begun beside the damaged file")
	}
}

// compare reads each key by itself. A read may fail with an error that tolerated accepts, and must never give something
// else than the sample holds.
func (s sample) compare(ctx context.Context, c *clientv3.Client, tolerated func(error) bool) error {
	for key, want := range s.shown {
		resp, err := c.Get(ctx, key)
		if err != nil && tolerated != nil && tolerated(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		if len(resp.Kvs) != 1 || history.RecordOf(resp.Kvs[0]) != want {
			return fmt.Errorf("%s is not what was written", key)
		}
	}
	return nil
}

// TestDamagedPageIsFoundBeforeItIsServed takes single pages away. A page of the index is missed at the start. A page that
// holds a part of a long value only is missed when the value is read, and then the read fails; it never gives wrong bytes.
func TestDamagedPageIsFoundBeforeItIsServed(t *testing.T) {
	t.Parallel()
	s := takeSample(t)
	rng := rand.New(rand.NewPCG(*flagSeed, 7))
	refused, served := 0, 0
	for range 12 {
		page := 1 + rng.IntN(len(s.db)/dbPage-1)
		bad := bytes.Clone(s.db)
		clear(bad[page*dbPage : (page+1)*dbPage])
		n := s.put(t, bad)
		err := n.Start()
		if errors.Is(err, process.ErrEnded) {
			refused++
			requireRefusal(t, n, bad)
			continue
		}
		ok(t, err)
		served++
		if err := s.compare(t.Context(), n.Client(t), func(err error) bool { return errors.Is(err, rpctypes.ErrCorrupt) }); err != nil {
			t.Errorf("page %d: %v", page, err)
		}
		process.RequireNoPanic(t, n.Proc)
		n.Proc.Kill()
	}
	t.Logf("seed %d: %d starts were refused, %d met the damage in a value or nowhere", *flagSeed, refused, served)
}

// TestTornWriteAheadLogGivesABeginningOfTheHistory damages the write-ahead log of a killed store. What was in it is lost by
// that; the store must start with a whole beginning of its history, or refuse.
func TestTornWriteAheadLogGivesABeginningOfTheHistory(t *testing.T) {
	t.Parallel()
	p := newPatient(t, t.TempDir(), process.ProfileEtcd)
	s := newSquad("torn", 16, p.Clients(t, 4), *flagSeed, true)
	s.Start(t.Context())
	ok(t, s.Await(t.Context(), 1500))
	p.take(s.End(1))
	head, err := history.Revision(t.Context(), p.client)
	ok(t, err)
	past, _, err := history.Replay(t.Context(), p.client, 1, head)
	ok(t, err)
	p.Proc.Kill()
	db, err := os.ReadFile(p.Database())
	ok(t, err)
	wal, err := os.ReadFile(p.Database() + "-wal")
	ok(t, err)
	if len(wal) == 0 {
		t.Fatal("the write-ahead log is empty")
	}
	rng := rand.New(rand.NewPCG(*flagSeed, 8))
	for i := range 12 {
		torn := bytes.Clone(wal)
		at := rng.IntN(len(wal))
		switch i % 3 {
		case 0:
			torn = torn[:at]
		case 1:
			clear(torn[at:])
		default:
			torn[at] ^= 0xff
		}
		n := newNode(t, t.TempDir(), process.ProfileEtcd)
		ok(t, os.WriteFile(n.Database(), db, 0o600))
		ok(t, os.WriteFile(filepath.Join(n.Dir, "kinsy.db-wal"), torn, 0o600))
		ok(t, beginning(t, n, past))
	}
}

// beginning checks that a store holds a beginning of a history, or has refused to start.
func beginning(t *testing.T, n *process.Node, past []history.Event) error {
	t.Helper()
	err := n.Start()
	process.RequireNoPanic(t, n.Proc)
	if errors.Is(err, process.ErrEnded) && strings.Contains(n.Proc.Output(), "corrupt") {
		t.Logf("refused: %s", n.Proc.Tail())
		return nil
	}
	if err != nil {
		return err
	}
	defer n.Proc.Kill()
	c := n.Client(t)
	head, err := history.Revision(t.Context(), c)
	if err != nil {
		return err
	}
	told, _, err := history.Replay(t.Context(), c, 1, head)
	if err != nil {
		return err
	}
	kept := past[:len(past)-len(history.Above(past, head))]
	if err := history.SameEvents(told, kept); err != nil {
		return fmt.Errorf("up to revision %d: %w", head, err)
	}
	content := history.State{}
	if err := content.Apply(kept); err != nil {
		return err
	}
	shown, err := history.ReadAll(t.Context(), c, "", head)
	if err != nil {
		return err
	}
	return content.Same(shown)
}
