package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// BinaryVariable names the environment variable that gives a kinsy binary to
// test instead of one built from the repository.
const BinaryVariable = "KINSY_TEST_BINARY"

// KubernetesVersion is the version under test, as its own version command prints
// it. The module in ../build pins the same.
const KubernetesVersion = "v1.37.1"

const rootModule = "module github.com/kinsy/kinsy\n"

// BuildKinsy builds kinsy from the repository around the working directory
// into dir, without cgo, and returns the path of the binary. The binary named
// by KINSY_TEST_BINARY is taken instead when that is set.
func BuildKinsy(ctx context.Context, dir string) (string, error) {
	if path := os.Getenv(BinaryVariable); path != "" {
		return path, nil
	}
	root, err := repository()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "kinsy")
	return out, build(ctx, root, "-o", out, ".")
}

// BuildReference builds the etcd server that this module requires into dir and
// returns the path of the binary.
func BuildReference(ctx context.Context, dir string) (string, error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "etcd")
	return out, build(ctx, filepath.Join(root, "test", "kubernetes"), "-o", out, "go.etcd.io/etcd/server/v3")
}

// BuildKubernetes returns the folder that holds kube-apiserver and kubectl.
// They are kept in the user's cache folder and built when missing, which takes
// several minutes on a cold cache.
func BuildKubernetes(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	dir := filepath.Join(cache, "kinsy-test", "kubernetes-"+KubernetesVersion)
	if exists(filepath.Join(dir, "kube-apiserver")) && exists(filepath.Join(dir, "kubectl")) {
		return dir, nil
	}
	root, err := repository()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	return dir, build(ctx, filepath.Join(root, "test", "kubernetes", "build"),
		"-trimpath",
		"-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion="+KubernetesVersion,
		"-o", dir+string(filepath.Separator),
		"k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubectl")
}

func build(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// repository finds the folder of kinsy's own module above the working
// directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find repository: %w", err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), rootModule) {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("find repository: no kinsy module above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
