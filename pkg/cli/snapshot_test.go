package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/pkg/s3snap"
)

func TestSnapshotSaveListVerify(t *testing.T) {
	p := stopped(t)
	var none, all []s3snap.Manifest
	if err := json.Unmarshal([]byte(done(t, "snapshot", "list", "--object-store", p.store, "--output", "json")), &none); err != nil || len(none) != 0 {
		t.Fatalf("%v, %v", none, err)
	}
	saved := done(t, "snapshot", "save", "--object-store", p.store)
	if value(t, saved, "revision") != "8" || value(t, saved, "compacted") != "4" {
		t.Errorf("saved:\n%s", saved)
	}
	if err := json.Unmarshal([]byte(done(t, "snapshot", "list", "--object-store", p.store, "--output", "json")), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	if all[0].Object != value(t, saved, "snapshot") || all[0].Revision != 8 {
		t.Errorf("listed: %+v", all)
	}
	id := strconv.FormatInt(all[0].ID, 10)
	table := done(t, "snapshot", "list", "--object-store", p.store)
	contains(t, table, "ID", "LAST WRITE", "\n"+id+" ")
	again := done(t, "snapshot", "save", "--object-store", p.store)
	if value(t, again, "snapshot") != all[0].Object {
		t.Errorf("a second snapshot of the same rows:\n%s", again)
	}
	contains(t, done(t, "snapshot", "verify", "--object-store", p.store), "snapshot "+id+": ", "chunks: ", "sound")
	contains(t, done(t, "snapshot", "verify", id, "--object-store", p.store), "snapshot "+id+": ", "sound")
	refused(t, "there is no snapshot 9999", "snapshot", "verify", "9999", "--object-store", p.store)
	flip(t, filepath.Join(p.folder, all[0].Object))
	refused(t, "snapshot at "+id, "snapshot", "verify", "--object-store", p.store)
	refused(t, "snapshot at "+id, "snapshot", "verify", id, "--object-store", p.store)
}

func TestSnapshotVerifyFindsADamagedChunk(t *testing.T) {
	p := stopped(t)
	flip(t, p.chunk(t))
	refused(t, "corrupt", "snapshot", "verify", "--object-store", p.store)
}

func TestSnapshotSaveToFile(t *testing.T) {
	p := stopped(t)
	out := t.TempDir()
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for name, from := range map[string][]string{"data": {"--data-dir", p.data}, "store": {"--object-store", p.store}} {
		file := filepath.Join(out, name)
		args := append([]string{"snapshot", "save", "--output", file}, from...)
		unchanged(t, p.folder, func() { contains(t, done(t, args...), file) })
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		contains(t, done(t, "inspect", file), "snapshot", "checks       ok")
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, file+" exists; give --force", args...)
		if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
			t.Errorf("the file was changed (%v)", err)
		}
		done(t, append(args, "--force")...)
	}
	if got := tree(t, out); strings.Count(got, "\n") != 2 {
		t.Errorf("left behind:\n%s", got)
	}
	if got := tree(t, temp); got != temp {
		t.Errorf("left behind:\n%s", got)
	}
}
