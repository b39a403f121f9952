package differential

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The values of -hash. etcd keeps the hashes that it took during its last ten compactions and answers HashKV of those
// revisions from memory, with the compact revision of that time, even when they are compacted by now. These answers
// are left out unless all hashes are wanted.
const (
	hashAll      = "all"
	hashComputed = "computed"
	hashNone     = "none"
)

var (
	flagOps     = flag.Int("ops", 16_000, "operations in all")
	flagSeed    = flag.Uint64("seed", 1, "seed of the first round")
	flagSubject = flag.String("subject", "kinsy", "server compared with etcd: kinsy or etcd")
	flagHash    = flag.String("hash", hashComputed, "which hashes to compare: all, computed or none")
	flagShrink  = flag.Duration("shrink", 90*time.Second, "time to spend on shrinking a failing sequence; 0: none")
)

var (
	// binaries is the folder of the programs built for the test.
	binaries string
	// kinsyBinary is the path of the kinsy under test; empty when the subject is etcd.
	kinsyBinary string
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envEtcdDir); dir != "" {
		os.Exit(runEtcd(dir, os.Getenv(envEtcdAddr)))
	}
	flag.Parse()
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "differential:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	var err error
	if binaries, err = os.MkdirTemp("", "kinsy-differential-"); err != nil {
		return 1, fmt.Errorf("create folder for binaries: %w", err)
	}
	defer os.RemoveAll(binaries)
	if *flagSubject == "kinsy" {
		if kinsyBinary, err = buildKinsy(binaries); err != nil {
			return 1, err
		}
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

// needKinsy skips a test that has no meaning when etcd is compared with itself.
func needKinsy(t *testing.T) {
	t.Helper()
	if *flagSubject != "kinsy" {
		t.Skip("needs kinsy as the subject")
	}
}
