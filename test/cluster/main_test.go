package cluster

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/harness/build"
	"github.com/kinsy/kinsy/test/harness/gateway"
)

const (
	envMinutes = "KINSY_CLUSTER_MINUTES"
	envRounds  = "KINSY_CLUSTER_ROUNDS"
	envSlow    = "KINSY_CLUSTER_SLOW"
	envOnly    = "KINSY_CLUSTER_ONLY"
	envKeep    = "KINSY_CLUSTER_KEEP"
)

var flagSeed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the random choices; a failure names it")

var (
	kinsyBinary string           // the kinsy under test
	server      *gateway.Gateway // the S3 server of all tests
	lab         *network         // of all tests
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := start(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		code = 1
	}
	os.Exit(code)
}

// start builds what is tested, and runs the tests: in a network of their own where the system lets them have one.
func start(m *testing.M) (int, error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "kinsy-cluster-")
	if err != nil {
		return 1, fmt.Errorf("create folder: %w", err)
	}
	defer os.RemoveAll(dir)
	if kinsyBinary, err = build.Kinsy(ctx, dir); err != nil {
		return 1, err
	}
	gatewayBinary, err := build.Gateway(ctx)
	if err != nil {
		return 1, err
	}
	if !insideNetwork() {
		code, ran, err := runInNetwork(kinsyBinary)
		if ran {
			return code, err
		}
		fmt.Fprintln(os.Stderr, "no network namespaces, so no cuts:", err)
	}
	if lab, err = newNetwork(dir); err != nil {
		return 1, err
	}
	if server, err = gateway.Start(ctx, gatewayBinary, filepath.Join(dir, "objects")); err != nil {
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
