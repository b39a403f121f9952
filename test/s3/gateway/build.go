package gateway

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Version is the version of versitygw under test. The module in ../build pins the same.
const Version = "v1.8.0"

const command = "github.com/versity/versitygw/cmd/versitygw"

// Build returns the path of versitygw. It is kept in the user's cache folder, and built without cgo from the module in
// moduleDir when it is missing, which takes minutes on a cold cache. Builds may run concurrently.
func Build(ctx context.Context, moduleDir string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	path := filepath.Join(cache, "kinsy-test", "versitygw-"+Version)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), "versitygw-")
	if err != nil {
		return "", fmt.Errorf("make folder for the build: %w", err)
	}
	defer os.RemoveAll(dir)
	built := filepath.Join(dir, "versitygw")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", built, command)
	cmd.Dir = moduleDir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build versitygw: %w\n%s", err, out)
	}
	return path, os.Rename(built, path)
}
