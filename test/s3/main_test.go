package s3

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/build"
	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/gateway"
	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/ledger"
	"github.com/kinsy/kinsy/test/harness/process"
	"github.com/kinsy/kinsy/test/harness/registers"
)

const (
	envMinutes  = "KINSY_S3_MINUTES"
	envRounds   = "KINSY_S3_ROUNDS"
	envHeldRows = "KINSY_S3_HELD_ROWS"
	envSlow     = "KINSY_S3_SLOW"
)

// stopLimit is how long kinsy may take to end after SIGTERM, its last upload included.
const stopLimit = 15 * time.Second

var flagSeed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the random choices; a failure names it")

var (
	kinsyBinary string           // the kinsy under test
	server      *gateway.Gateway // the S3 server of all tests
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "s3:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "kinsy-s3-")
	if err != nil {
		return 1, fmt.Errorf("create folder: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	if kinsyBinary, err = build.Kinsy(ctx, dir); err != nil {
		return 1, err
	}
	binary, err := build.Gateway(ctx)
	if err != nil {
		return 1, err
	}
	if server, err = gateway.Start(ctx, binary, filepath.Join(dir, "objects")); err != nil {
		return 1, err
	}
	defer server.Close()
	return m.Run(), nil
}

// number returns the value of a variable, or a default.
func number(name string, fallback float64) float64 {
	if n, err := strconv.ParseFloat(os.Getenv(name), 64); err == nil && n > 0 {
		return n
	}
	return fallback
}

// slow reports whether speed is logged only.
func slow() bool { return os.Getenv(envSlow) != "" }

// ok ends the test at an error.
func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newNode describes a node with an empty data folder.
func newNode(t testing.TB, flags ...string) *process.Node {
	t.Helper()
	return process.NewNode(t, process.Config{Binary: kinsyBinary, Flags: flags})
}

// newSquad makes writers whose values begin with a name. They go on whatever happens to the store.
func newSquad(name string, count int, clients []*clientv3.Client, seed uint64) *ledger.Squad {
	return ledger.NewSquad(ledger.Config{Name: name, Count: count, Clients: clients, Seed: seed, Patience: client.Patience})
}

// registerPause is the longest time between two requests of one client of registers.
const registerPause = 20 * time.Millisecond

// newCrowd makes clients of registers. They go on whatever happens to the store.
func newCrowd(count int, clients []*clientv3.Client, seed uint64) *registers.Crowd {
	return registers.NewCrowd(registers.Config{Count: count, Clients: clients, Seed: seed, Patience: client.Patience, Pause: registerPause})
}

// judge checks what clients of registers were told against the history.
func judge(t *testing.T, events []history.Event, crowds ...*registers.Crowd) {
	t.Helper()
	result, err := registers.Judge(events, t.ArtifactDir(), crowds...)
	t.Log(result)
	if err != nil {
		t.Fatalf("seed %d: %v", *flagSeed, err)
	}
}
