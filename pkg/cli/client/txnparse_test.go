package client

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got:\n%s\nwant:\n%s", name, got, want)
	}
}

func TestParseTxn(t *testing.T) {
	text := `# compares:
mod("key1") > "0"
  value( "a\x00b" )!="x y"
create("k") = 5
version("k") < '7'
lease("k") == 694d77aa9e2c2701
val("k") = ""

put key1 "overwrote\nkey1"
put 'a "quoted" key' "--not-an-option" --lease=1f --prev-kv
get key1 key9 --limit 3 --sort-by mod --order descend --keys-only
get --prefix "" --rev=7 --serializable

del --prefix "dir/" --prev-kv
del -- --odd
put --ignore-value key1 --lease 1f
put --escaped a\x00b \xff
`
	var prompts []string
	r, err := parseTxn(strings.NewReader(text), func(p string) { prompts = append(prompts, p) })
	if err != nil {
		t.Fatal(err)
	}
	if len(prompts) != 3 {
		t.Errorf("asked %q", prompts)
	}
	// Its spaces are random on purpose.
	golden(t, "txn.txt", strings.ReplaceAll(prototext.MarshalOptions{Multiline: true}.Format(r), ":  ", ": "))
}

func TestParseTxnParts(t *testing.T) {
	for text, want := range map[string][3]int{
		"":                                     {},
		"\n\n":                                 {},
		"\n\nput a b":                          {0, 0, 1},
		"\nput a b\n":                          {0, 1, 0},
		"mod(\"a\")=\"0\"":                     {1, 0, 0},
		"mod(\"a\")=\"0\"\r\n\r\nget a\r\n":    {1, 1, 0},
		"\nget a\nget b\n\ndel a\n\n \n# x\nx": {},
	} {
		r, err := parseTxn(strings.NewReader(text), nil)
		if strings.Contains(text, "# x") {
			if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "line 9") {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err != nil || [3]int{len(r.Compare), len(r.Success), len(r.Failure)} != want {
			t.Errorf("%q: %v, %v", text, r, err)
		}
	}
}

func TestParseTxnRefuses(t *testing.T) {
	compares := []string{
		"mod", `mod(a) = "1"`, `mod("a") = "x"`, `mod("a") ~ "1"`, `mod("a") = `, `mod("a" = "1"`, `foo("a") = "1"`, `mod("") = "1"`,
		`lease("a") = "xyz"`, `mod("a") = "1" "2"`, `mod("a") = "1`, `mod("a") =! "1"`, `version("a") = 99999999999999999999`,
	}
	for _, line := range compares {
		if r, err := parseTxn(strings.NewReader(line), nil); !errors.Is(err, ErrUsage) || !strings.HasPrefix(err.Error(), "line 1: ") {
			t.Errorf("%s: %v, %v", line, r, err)
		}
	}
	requests := []string{
		"put", "put a", "put a b c", `put "" b`, "put a b --lease", "put a b --lease x", "put a b --nothing", `put "a b`, `put "a"b c`, "put 'a b",
		"put a b --prev-kv=maybe", "get", "get a b c", "get a --limit x", "get a --sort-by size", "get --prefix a b", "del", "del --prefix --from-key a",
		"move a b", `"put" a b`, "put --ignore-value a b", "get --escaped a\\",
	}
	for _, line := range requests {
		if r, err := parseTxn(strings.NewReader("\n"+line), nil); !errors.Is(err, ErrUsage) || !strings.HasPrefix(err.Error(), "line 2: ") {
			t.Errorf("%s: %v, %v", line, r, err)
		}
	}
}

func FuzzTxn(f *testing.F) {
	f.Add("mod(\"a\") > \"0\"\n\nput a \"b\"\nget --prefix a\n\ndel a --prev-kv\n")
	f.Add("value('a') != \"\\x00\"\n\nput --escaped a\\x00 b --lease=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseTxn(strings.NewReader(text), nil)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		for _, c := range r.Compare {
			if len(c.Key) == 0 || c.TargetUnion == nil {
				t.Errorf("compare %v", c)
			}
		}
		for _, op := range append(r.Success, r.Failure...) {
			if len(keyOfOp(op)) == 0 {
				t.Errorf("request %v", op)
			}
		}
	})
}

func keyOfOp(op *pb.RequestOp) []byte {
	switch v := op.GetRequest().(type) {
	case *pb.RequestOp_RequestPut:
		return v.RequestPut.GetKey()
	case *pb.RequestOp_RequestRange:
		return v.RequestRange.GetKey()
	case *pb.RequestOp_RequestDeleteRange:
		return v.RequestDeleteRange.GetKey()
	}
	return nil
}
