package s3

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/s3/gateway"
)

const (
	envBinary  = "KINSY_TEST_BINARY"
	envMinutes = "KINSY_S3_MINUTES"
	envRounds  = "KINSY_S3_ROUNDS"
	envSlow    = "KINSY_S3_SLOW"
)

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
	if kinsyBinary, err = buildKinsy(dir); err != nil {
		return 1, err
	}
	ctx := context.Background()
	binary, err := gateway.Build(ctx, "build")
	if err != nil {
		return 1, err
	}
	if server, err = gateway.Start(ctx, binary, filepath.Join(dir, "objects")); err != nil {
		return 1, err
	}
	defer server.Close()
	return m.Run(), nil
}

// buildKinsy builds the kinsy of this repository into dir, unless KINSY_TEST_BINARY names one.
func buildKinsy(dir string) (string, error) {
	if path := os.Getenv(envBinary); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(dir, "kinsy")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build kinsy: %w\n%s", err, out)
	}
	return path, nil
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
