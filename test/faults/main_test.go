package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

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
	if kinsyBinary, err = buildKinsy(dir); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// buildKinsy builds the kinsy of this repository into dir, unless KINSY_TEST_BINARY names one.
func buildKinsy(dir string) (string, error) {
	if path := os.Getenv("KINSY_TEST_BINARY"); path != "" {
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
