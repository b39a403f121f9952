// Package build finds this repository and builds the binaries that tests start.
package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Binary is the environment variable that names a kinsy to use instead of building one.
const Binary = "KINSY_TEST_BINARY"

// GatewayVersion is the version of versitygw under test. The module in versitygw pins the same; it is a module of its own, so
// that nothing else depends on what versitygw needs.
const GatewayVersion = "v1.8.0"

// EtcdVersion is the version of etcd that kinsy is compared with; test/kubernetes pins the same.
const EtcdVersion = "v3.7.3"

const (
	gatewayCommand = "github.com/versity/versitygw/cmd/versitygw"
	etcdCommand    = "go.etcd.io/etcd/server/v3"
)

// ErrNoRepository says that the working folder is in no copy of this repository.
var ErrNoRepository = errors.New("the working folder is outside of kinsy's repository")

// Root returns the folder of kinsy's repository, in which the working folder is.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find working folder: %w", err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module github.com/kinsy/kinsy\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", ErrNoRepository
		}
		dir = up
	}
}

// Kinsy builds kinsy into a folder and returns its path; or the path that Binary names, if it names one.
func Kinsy(ctx context.Context, into string) (string, error) {
	if path := os.Getenv(Binary); path != "" {
		return filepath.Abs(path)
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(into, "kinsy")
	return path, run(ctx, root, "go", "build", "-o", path, ".")
}

// Gateway returns the path of versitygw. It is kept in the user's cache folder, and built without cgo when it is missing,
// which takes minutes on a cold cache. Builds may run concurrently.
func Gateway(ctx context.Context) (string, error) {
	return kept(ctx, "versitygw-"+GatewayVersion, filepath.Join("test", "harness", "build", "versitygw"), gatewayCommand)
}

// Etcd returns the path of etcd, as Gateway does that of versitygw. The module is the one of the tests with Kubernetes.
func Etcd(ctx context.Context) (string, error) {
	return kept(ctx, "etcd-"+EtcdVersion, filepath.Join("test", "kubernetes"), etcdCommand)
}

// kept returns the path of a command that is kept in the user's cache folder, and built in a module of this repository when it is
// missing.
func kept(ctx context.Context, name, module, command string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	path := filepath.Join(cache, "kinsy-test", name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), "build-")
	if err != nil {
		return "", fmt.Errorf("make folder for the build: %w", err)
	}
	defer os.RemoveAll(dir)
	built := filepath.Join(dir, name)
	if err := run(ctx, filepath.Join(root, module), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", built, command); err != nil {
		return "", err
	}
	return path, os.Rename(built, path)
}

// run runs a command of the go tool without cgo, in a module.
func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s in %s: %w\n%s", strings.Join(append([]string{name}, args...), " "), dir, err, out)
	}
	return nil
}
