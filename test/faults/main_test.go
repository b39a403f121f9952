package faults

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/build"
	"github.com/kinsy/kinsy/test/harness/ledger"
	"github.com/kinsy/kinsy/test/harness/process"
)

// stopLimit is how long kinsy may take to end after SIGTERM.
const stopLimit = 5 * time.Second

// envRounds is the default of -rounds, so that a Makefile can set it for all packages of the module.
const envRounds = "KINSY_FAULT_ROUNDS"

var (
	flagRounds = flag.Int("rounds", defaultRounds(), "rounds of the crash test")
	flagSeed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the random choices; a failure names it")
	flagLoad   = flag.Duration("load", 250*time.Millisecond, "longest time that the crash test writes before a kill")
)

// kinsyBinary is the path of the kinsy under test.
var kinsyBinary string

func defaultRounds() int {
	if n, err := strconv.Atoi(os.Getenv(envRounds)); err == nil && n > 0 {
		return n
	}
	return 10
}

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "kinsy-faults-")
	if err != nil {
		return 1, fmt.Errorf("create folder for the binary: %w", err)
	}
	defer os.RemoveAll(dir)
	if kinsyBinary, err = build.Kinsy(context.Background(), dir); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// ok ends the test at an error.
func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// newNode describes a node with its data in dir.
func newNode(t testing.TB, dir, api string, flags ...string) *process.Node {
	t.Helper()
	return process.NewNode(t, process.Config{Binary: kinsyBinary, Dir: dir, API: api, Flags: flags})
}

// newSquad makes writers whose values begin with a name. Until they are told to stop every error is a fault: nothing was done to
// the store yet. multi: several changes in one request are allowed.
func newSquad(name string, count int, clients []*clientv3.Client, seed uint64, multi bool) *ledger.Squad {
	return ledger.NewSquad(ledger.Config{Name: name, Count: count, Clients: clients, Seed: seed, Single: !multi, Strict: true})
}
