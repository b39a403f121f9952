package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// writeLog makes a log of n rows at path and closes it.
func writeLog(t *testing.T, path string, n int) {
	t.Helper()
	l, err := sqllog.Open(context.Background(), sqllog.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	rows := make([]sqllog.Row, n)
	for i := range rows {
		rows[i] = sqllog.Row{
			ID: sqllog.ID(i + 1), Epoch: 1, Revision: sqllog.Revision(i + 2), Kind: sqllog.KindPut, Key: []byte{byte(i >> 8), byte(i)},
			Value: make([]byte, 200), CreateRevision: sqllog.Revision(i + 2), Version: 1,
		}
	}
	if err := errors.Join(l.Append(rows), l.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestStartSaysWhatADamagedLogStillHolds(t *testing.T) {
	cfg := DefaultConfig(true)
	cfg.DataDir, cfg.ListenAddress, cfg.MetricsBindAddress, cfg.HTTPAddress = t.TempDir(), "127.0.0.1:0", MetricsOff, HTTPOff
	path := cfg.LogPath()
	writeLog(t, path, 5000)
	damaged, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	middle := len(damaged) / 2 / 4096 * 4096
	clear(damaged[middle : middle+4096])
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}

	_, err = Start(context.Background(), cfg)
	if !errors.Is(err, sqllog.ErrCorrupt) {
		t.Fatalf("start on a damaged log: %v", err)
	}
	for _, want := range []string{"readable rows from the start: 1 to", "readable rows from the end", filepath.Base(path)} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(after) != string(damaged) {
		t.Error("the damaged file was changed")
	}
}
