package object

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/sirupsen/logrus"
)

// Bounds of a key file.
const (
	keySize        = 32
	maxKeyIDLen    = 32
	maxKeyFileSize = 64 << 10
)

var keyIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,32}$`)

// KeyRing holds the keys of a key file. It is never changed.
type KeyRing struct {
	first string // id of the key that encrypts
	keys  map[string][keySize]byte
}

// ParseKeys reads the text of a key file: lines of an id (1 to 32 letters, digits, ".", "_", "-"), blanks, and 32 random
// bytes in standard base64. Empty lines and lines that begin with "#" are skipped. The first key encrypts, all decrypt. An
// error names the line, never what it holds.
func ParseKeys(text []byte) (*KeyRing, error) {
	if len(text) > maxKeyFileSize {
		return nil, fmt.Errorf("key file has more than %d bytes", maxKeyFileSize)
	}
	ring := &KeyRing{keys: make(map[string][keySize]byte)}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		if err := ring.add(string(line)); err != nil {
			return nil, fmt.Errorf("line %d of the key file: %w", number, err)
		}
	}
	if ring.first == "" {
		return nil, errors.New("key file holds no key")
	}
	return ring, nil
}

// add parses one line.
func (k *KeyRing) add(line string) error {
	fields := strings.Fields(line)
	if len(fields) != 2 {
		return errors.New("not an id and a key")
	}
	id, text := fields[0], fields[1]
	if !keyIDPattern.MatchString(id) {
		return fmt.Errorf("an id has 1 to %d letters, digits, dots, underscores, hyphens", maxKeyIDLen)
	}
	if _, ok := k.keys[id]; ok {
		return errors.New("the id is there twice")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != keySize {
		return fmt.Errorf("a key is %d bytes in base64", keySize)
	}
	key := [keySize]byte(raw)
	if key == ([keySize]byte{}) {
		return errors.New("a key of zeroes is no key")
	}
	if k.first == "" {
		k.first = id
	}
	k.keys[id] = key
	return nil
}

// String names the key that encrypts and no key's bytes.
func (k *KeyRing) String() string {
	return fmt.Sprintf("%d keys, encrypts with %q", len(k.keys), k.first)
}

// GoString is String, so that no verb of fmt shows a key.
func (k *KeyRing) GoString() string { return k.String() }

// readKeyFile reads and parses a key file, and warns if others than its owner may read it.
func readKeyFile(path string, log logrus.FieldLogger) (*KeyRing, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open --object-store-key-file: %w", err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at --object-store-key-file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read --object-store-key-file: %w", err)
	}
	ring, err := ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("--object-store-key-file %s: %w", path, err)
	}
	if mode := stat.Mode().Perm(); mode&0o077 != 0 {
		log.WithFields(logrus.Fields{"file": path, "mode": fmt.Sprintf("%#o", mode)}).Warn("key file is open to others than its owner")
	}
	return ring, nil
}
