package s3snap

import (
	"errors"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// seedLog is a log with all its rows.
func seedLog(t *testing.T, w *world) *sqllog.Log {
	t.Helper()
	log, err := sqllog.Open(t.Context(), sqllog.Config{Path: w.disk(), Logger: w.quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	row := sqllog.Row{ID: 1, Epoch: 1, Revision: 2, Kind: sqllog.KindPut, Key: []byte("k"), CreateRevision: 2, Version: 1, WrittenAt: 1}
	if err := log.Append([]sqllog.Row{row}); err != nil {
		t.Fatal(err)
	}
	return log
}

func TestSeedHoldsTheWholeLog(t *testing.T) {
	w := newWorld(t)
	log := seedLog(t, w)
	if err := Seed(t.Context(), w.store, log); err != nil {
		t.Fatal(err)
	}
	out, err := Restore(t.Context(), RestoreConfig{Store: w.store, Path: w.disk(), Logger: w.quiet})
	if err != nil || out.Head != log.Head() || out.Rows != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	if err := Seed(t.Context(), w.store, log); !errors.Is(err, ErrExists) {
		t.Errorf("seeded twice: %v", err)
	}
}

func TestSeedThatFailsLeavesNothing(t *testing.T) {
	broken := errors.New("broken")
	for name, at := range map[string]string{"rows": rowsSuffix, "cluster": clusterKey} {
		w := newWorld(t)
		log := seedLog(t, w)
		w.store.Before = func(op object.Op, key string) error {
			if (op == object.OpPut || op == object.OpUpload) && strings.HasSuffix(key, at) {
				return broken
			}
			return nil
		}
		if err := Seed(t.Context(), w.store, log); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		if keys := w.keys(""); len(keys) > 0 {
			t.Errorf("%s: left behind: %v", name, keys)
		}
	}
}

func TestSeedWhoseLastAnswerIsLost(t *testing.T) {
	w := newWorld(t)
	log := seedLog(t, w)
	w.store.After = func(op object.Op, key string) error {
		if op == object.OpPut && key == clusterKey {
			return errors.New("lost")
		}
		return nil
	}
	if err := Seed(t.Context(), w.store, log); err != nil {
		t.Error(err)
	}
	if len(w.keys("")) != 3 {
		t.Errorf("objects: %v", w.keys(""))
	}
}
