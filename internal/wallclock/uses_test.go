package wallclock

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// reads are the methods and functions by which a program looks at the wall clock, or at a time that one has given.
// Before, After, Sub and time.Since go by the monotonic clock for times of time.Now; where they get another one, it
// comes from one of these, or from Round(0), which takes the monotonic clock away.
var reads = []string{"Unix", "UnixMilli", "UnixMicro", "UnixNano", "UTC", "Local", "ModTime", "Modified"}

// uses are all the places that read the wall clock in what decides, and why that is right.
var uses = map[string]string{
	"pkg/mvcc/batch.go UnixMilli":          "when a row was written: for kinsy restore --time, and for people",
	"pkg/node/clockwatch.go Round(0)":      "to tell that the clock is off",
	"pkg/node/lock.go UTC":                 "text of the lock of a data folder, for people",
	"pkg/node/register.go UnixMilli":       "when a node was started, for people",
	"pkg/s3snap/chain.go UnixMilli":        "when a chunk was written, for people",
	"pkg/s3snap/keep.go Modified":          "the age of objects, of two times by the clock of object storage",
	"pkg/s3snap/manifest.go UnixMilli":     "when a snapshot was taken: whether one is due, and its retention by age",
	"pkg/s3snap/object/file.go ModTime":    "in place of the clock of object storage; a version of a large object; temporary files of a day",
	"pkg/s3snap/object/file.go UnixNano":   "likewise",
	"pkg/s3snap/registry.go Modified":      "to tell that the clock is off",
	"pkg/s3snap/object/s3read.go Modified": "the clock of object storage",
	"pkg/s3snap/restore.go UnixMilli":      "kinsy restore --time",
	"pkg/s3snap/settle.go UTC":             "name of a file that is set aside",
	"pkg/s3snap/settle.go UnixMilli":       "when a chunk and an epoch row were written, for people",
	"pkg/s3snap/snapshot.go UnixMilli":     "when a snapshot was taken",
	"pkg/s3snap/term.go Unix":              "whether an upload was forced of late: how often object storage is asked, nothing else",
	"pkg/s3snap/term.go UnixNano":          "likewise",
	"pkg/sqllog/log.go UTC":                "when a log was made, for people",
}

// TestWallClockDecidesNothing: whoever reads the wall clock in a new place has to say here why a clock that jumps does
// no harm there.
func TestWallClockDecidesNothing(t *testing.T) {
	found := map[string]bool{}
	for _, folder := range []string{"elect", "mvcc", "node", "peer", "replicate", "s3snap", "s3snap/object", "server", "sqllog"} {
		files, err := filepath.Glob(filepath.Join("../../pkg", folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", folder, len(files), err)
		}
		for _, path := range files {
			if !strings.HasSuffix(path, "_test.go") {
				for _, name := range readsIn(t, path) {
					found["pkg/"+folder+"/"+filepath.Base(path)+" "+name] = true
				}
			}
		}
	}
	for use := range found {
		if uses[use] == "" {
			t.Errorf("%s: the wall clock is read; say in uses why it may jump", use)
		}
	}
	for use := range uses {
		if !found[use] {
			t.Errorf("%s is not there any more", use)
		}
	}
}

// readsIn names what a file reads the wall clock by.
func readsIn(t *testing.T, path string) (names []string) {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if slices.Contains(reads, n.Sel.Name) {
				names = append(names, n.Sel.Name)
			}
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Round" && len(n.Args) == 1 && isZero(n.Args[0]) {
				names = append(names, "Round(0)")
			}
		}
		return true
	})
	return names
}

func isZero(e ast.Expr) bool {
	literal, ok := e.(*ast.BasicLit)
	return ok && literal.Value == "0"
}
