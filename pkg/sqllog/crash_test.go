package sqllog

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// crashEnv names the log that this binary writes, until it is killed, in place
// of running tests.
const crashEnv = "KINSY_SQLLOG_CRASH"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		if err := writeUntilKilled(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	if path := os.Getenv(loadEnv); path != "" {
		if err := loadUntilKilled(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// crashGroup is how many rows a revision has in the crash test.
func crashGroup(r Revision) int { return int(r)*13%60 + 1 }

// writeUntilKilled appends groups, removes old rows and prints each id that is
// acknowledged.
func writeUntilKilled(path string) error {
	l, err := Open(context.Background(), Config{Path: path, Logger: quiet(), wal: smallWAL})
	if err != nil {
		return err
	}
	for {
		head := l.Head()
		if err := appendInNext(l); err != nil {
			return err
		}
		if _, err := fmt.Println(l.Head().ID); err != nil {
			return err
		}
		if head.Revision%16 != 0 || head.ID < 1000 {
			continue
		}
		var ids []ID
		for id := head.ID - 999; id < head.ID-500; id++ {
			if id%10 > 1 {
				ids = append(ids, id)
			}
		}
		if err := l.Remove(ids, Compaction{Revision: head.Revision}); err != nil {
			return err
		}
		if _, err := l.Shrink(20); err != nil {
			return err
		}
	}
}

// appendInNext appends the next group, every eighth one in a new epoch, which is
// promised before every other time.
func appendInNext(l *Log) error {
	next := l.Head().Revision + 1
	e := crashEpoch(next)
	if next%16 == 0 {
		if _, err := l.Promise(e); err != nil {
			return err
		}
	}
	rows := group(l.Head(), crashGroup(next))
	for i := range rows {
		rows[i].Epoch = e
	}
	return l.AppendIn(e, rows)
}

func crashEpoch(r Revision) Epoch { return Epoch(r/8) + 1 }

// TestKill kills the writing process at random moments. What it acknowledged is
// there afterwards, in whole groups, with a promise of their epoch, and the log
// goes on.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := 6
	if testing.Short() {
		rounds = 3
	}
	path := filepath.Join(t.TempDir(), "log.db")
	rng := rand.New(rand.NewPCG(3, 14))
	for range rounds {
		acked := killAfter(t, path, rng.IntN(120)+1)
		l := openTest(t, Config{Path: path})
		if l.Head().ID < acked {
			t.Fatalf("head is %d, %d was acknowledged", l.Head().ID, acked)
		}
		if promise, e := Epoch(l.promise.Load()), l.Head().Epoch; promise < e || promise > e+1 || e != crashEpoch(l.Head().Revision) {
			t.Fatalf("epoch %d is promised, head is %+v", promise, l.Head())
		}
		// Rows of the last thousand but five hundred may have been removed.
		first := max(1, l.Head().ID-400)
		wholeGroups(t, l, firstOfRevision(t, l, first), crashGroup)
		if err := appendInNext(l); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// firstOfRevision gives the first row, from id on, that begins a revision.
func firstOfRevision(t *testing.T, l *Log, id ID) ID {
	t.Helper()
	var first ID
	err := l.ScanKeys(t.Context(), id-1, l.Head().ID, func(r *Row) error {
		if first == 0 && r.Sub == 0 {
			first = r.ID
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// killAfter runs a writer, kills it once it has acknowledged n groups and gives
// the last id that it acknowledged.
func killAfter(t *testing.T, path string, n int) ID {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+path)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acked ID
	for lines := bufio.NewScanner(out); lines.Scan(); n-- {
		id, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		acked = ID(id)
		if n == 0 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || n > 0 {
		t.Fatalf("writer ended with %d groups to go: %v", n, err)
	}
	return acked
}
