package s3

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/test/harness/process"
)

// newKey returns a line of a key file.
func newKey(id string) string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return id + " " + base64.StdEncoding.EncodeToString(key)
}

// keyFile writes lines to a file that only its owner reads.
func keyFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	ok(t, os.WriteFile(path, []byte("# keys of the test\n"+strings.Join(lines, "\n")+"\n"), 0o600))
	return path
}

// TestEncryptionAndRotation writes with one key, goes on with another, and restores with both. Neither a node without the
// old key nor one without any may start, and no plaintext is in the store.
func TestEncryptionAndRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := newKey("first"), newKey("second")
	n := w.node(quorumStore)
	flags := n.Flags
	use := func(lines ...string) {
		n.Flags = append(append([]string(nil), flags...), "--snapshot-rows", "150", "--object-store-key-file", keyFile(t, lines...))
	}
	use(first)
	ok(t, n.Start())
	c := n.Client(t)
	_, err := fill(t.Context(), c, "/secret-first/", 200)
	ok(t, err)
	use(second, first)
	ok(t, n.Restart())
	head, err := fill(t.Context(), c, "/secret-second/", 50)
	ok(t, err)
	ok(t, n.RestartEmpty())
	requireFill(t, c, "/secret-first/", 200)
	requireFill(t, c, "/secret-second/", 50)
	w.requireChain(keyFile(t, first, second), head, c)
	n.Proc.Kill()
	requireNoPlaintext(t, w, "secret-", "cluster_id", "revision")

	use(second)
	requireRefused(t, n, "key file")
	n.Flags = flags
	requireRefused(t, n, "encrypt")
	use(first, second)
	ok(t, n.Start())
	requireFill(t, c, "/secret-second/", 50)
}

// requireRefused starts a node without a disk, and requires that it ends and says why.
func requireRefused(t *testing.T, n *process.Node, why string) {
	t.Helper()
	ok(t, n.Wipe())
	if err := n.Start(); !errors.Is(err, process.ErrEnded) {
		t.Fatalf("start ended with %v", err)
	}
	if code := n.Proc.ExitCode(); code <= 0 || !strings.Contains(n.Proc.Output(), why) {
		t.Errorf("exit code %d; %q is not in the message:\n%s", code, why, n.Proc.Tail())
	}
	process.RequireNoPanic(t, n.Proc)
}

// requireNoPlaintext looks at all files of the store. The JSON objects are not compressed, so their words would be found.
func requireNoPlaintext(t *testing.T, w *world, words ...string) {
	t.Helper()
	count := 0
	for path := range files(t, w.dir()) {
		body, err := os.ReadFile(path)
		ok(t, err)
		count++
		for _, word := range words {
			if bytes.Contains(body, []byte(word)) {
				t.Errorf("%s holds %q", path, word)
			}
		}
	}
	if count < 10 {
		t.Errorf("only %d objects", count)
	}
}
