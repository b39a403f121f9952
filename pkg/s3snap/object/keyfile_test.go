package object_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

func TestParseKeys(t *testing.T) {
	good := strings.TrimSuffix(keyA, "\n")
	for _, text := range []string{good, keyA + keyB, "# comment\n\n \t \r\n" + keyA, strings.ReplaceAll(good, " ", " \t ") + " \r\n"} {
		if _, err := object.ParseKeys([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	secret := strings.Fields(keyA)[1]
	for name, text := range map[string]string{
		"no key":        "# nothing\n\n",
		"no id":         secret,
		"three fields":  good + " more",
		"bad id":        "a/b " + secret,
		"long id":       strings.Repeat("a", 33) + " " + secret,
		"twice":         keyA + keyA,
		"short":         "a " + secret[:40],
		"long":          "a " + secret[:40] + secret,
		"url base64":    "a " + strings.Repeat("_", 43) + "=",
		"loose base64":  "a " + secret[:42] + "F=",
		"zeroes":        "a AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"second is bad": keyA + "b " + secret + "x",
		"large":         strings.Repeat("#\n", 40_000) + keyA,
	} {
		keys, err := object.ParseKeys([]byte(text))
		if err == nil {
			t.Errorf("%s was accepted as %v", name, keys)
		} else if strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("%s: error holds key material: %v", name, err)
		}
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	keys := ring(t, keyA)
	for _, text := range []string{fmt.Sprint(keys), fmt.Sprintf("%v %+v %#v %s", keys, keys, keys, keys)} {
		if strings.Contains(text, "0123") || strings.Contains(text, "48, 49") || strings.Contains(text, "0x30") || !strings.Contains(text, "2026-a") {
			t.Errorf("printed as %s", text)
		}
	}
}

func TestKeyFileMode(t *testing.T) {
	for mode, warnings := range map[os.FileMode]int{0o600: 0, 0o400: 0, 0o640: 1, 0o604: 1} {
		path := keyFile(t, keyA)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		log, hook := logtest.NewNullLogger()
		open(t, object.Config{URL: "file://" + t.TempDir(), KeyFile: path, Logger: log})
		if len(hook.AllEntries()) != warnings {
			t.Errorf("mode %v: %d warnings", mode, len(hook.AllEntries()))
		}
		for _, e := range hook.AllEntries() {
			if e.Level != logrus.WarnLevel {
				t.Errorf("mode %v: logged at %v", mode, e.Level)
			}
		}
	}
}

func TestKeyFileErrors(t *testing.T) {
	for _, path := range []string{"/does/not/exist", keyFile(t, "nonsense")} {
		_, err := object.Open(t.Context(), object.Config{URL: "file://" + t.TempDir(), KeyFile: path})
		if err == nil || !strings.Contains(err.Error(), "--object-store-key-file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// FuzzParseKeys parses arbitrary text, and uses what it takes for keys.
func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(keyA + keyB))
	f.Add([]byte("# comment\n\n" + keyA))
	f.Add([]byte("id =\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := object.ParseKeys(text)
		if err != nil {
			return
		}
		s := object.Encrypt(object.NewMemory(), keys)
		if _, err := s.Put(t.Context(), "a", []byte("body"), object.Condition{}); err != nil {
			t.Fatal(err)
		}
		if got, _, err := object.ReadAll(t.Context(), s, "a", 100); err != nil || string(got) != "body" {
			t.Fatalf("got %q, %v", got, err)
		}
	})
}
