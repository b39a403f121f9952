package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
)

func TestMainPrintsErrorsLineByLine(t *testing.T) {
	clearEnvironment(t)
	var out, errs bytes.Buffer
	if code := Main([]string{"kinsy", "--api", "x", "--name", ""}, &out, &errs); code != 1 {
		t.Errorf("exit code %d", code)
	}
	want := "kinsy: --api must be netsy or etcd, not \"x\"\nkinsy: --name must not be empty\n"
	if errs.String() != want || out.Len() != 0 {
		t.Errorf("stderr %q, stdout %q", errs.String(), out.String())
	}
}

func TestCommands(t *testing.T) {
	clearEnvironment(t)
	tests := []struct {
		args []string
		want string
	}{
		{nil, "kinsy --dev"},
		{[]string{"--help"}, "kinsy server --help"},
		{[]string{"--version"}, "kinsy version " + Version()},
		{[]string{"version"}, "etcd API 3.6.16"},
		{[]string{"server", "--help"}, "$KINE_LISTEN_ADDRESS"},
		{[]string{"--dev", "--help"}, "kinsy server"},
		{[]string{"completion", "bash"}, "complete"},
		{[]string{"server", "--comp", "--generate-shell-completion"}, "--compact-interval"},
	}
	for _, tt := range tests {
		var out, errs bytes.Buffer
		if code := Main(append([]string{"kinsy"}, tt.args...), &out, &errs); code != 0 || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%v: exit code %d, %q is not in %q (%s)", tt.args, code, tt.want, out.String(), errs.String())
		}
	}
}

func TestBanner(t *testing.T) {
	b := banner{version: "1.2.3", api: "etcd", urls: []string{"http://127.0.0.1:2379"}, metrics: "http://127.0.0.1:2381", data: "/d/kinsy.db"}
	var plain, coloured bytes.Buffer
	printBanner(&plain, b, false)
	printBanner(&coloured, b, true)
	want := `
kinsy 1.2.3 is ready
  etcd     http://127.0.0.1:2379 (--api etcd)
  metrics  http://127.0.0.1:2381/metrics
  data     /d/kinsy.db
  try      etcdctl --endpoints http://127.0.0.1:2379 put hello world
           curl http://127.0.0.1:2381/readyz?verbose

`
	if plain.String() != want {
		t.Errorf("got:%s", plain.String())
	}
	if !strings.Contains(coloured.String(), "\x1b[") {
		t.Error("no colour on a terminal")
	}
	b.metrics = ""
	plain.Reset()
	if printBanner(&plain, b, false); strings.Contains(plain.String(), "metrics") {
		t.Error("metrics named although there are none")
	}
}

func TestLogFormats(t *testing.T) {
	var out bytes.Buffer
	newLogger(&out, logPlain, false).WithField("rows", 3).Info("log opened")
	if got := out.String(); !strings.Contains(got, `level=info msg="log opened" rows=3`) {
		t.Errorf("plain: %s", got)
	}
	out.Reset()
	newLogger(&out, logJSON, true).WithField("rows", 3).Debug("log opened")
	if got := out.String(); !strings.Contains(got, `"message":"log opened","rows":3,"severity":"debug"`) {
		t.Errorf("JSON: %s", got)
	}
	if log := newLogger(&out, logPlain, false); log.IsLevelEnabled(logrus.DebugLevel) {
		t.Error("details are logged unasked")
	}
}

func TestStopNode(t *testing.T) {
	broken := errors.New("broken")
	t.Run("in time", func(t *testing.T) {
		if err := stopNode(func(context.Context) error { return broken }, nil); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cut off by the limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			err := stopNode(func(ctx context.Context) error { <-ctx.Done(); return nil }, nil)
			if err != nil || time.Since(start) != shutdownLimit {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("stuck", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			free := make(chan struct{})
			err := stopNode(func(context.Context) error { <-free; return nil }, nil)
			if !errors.Is(err, errTooSlow) {
				t.Errorf("got %v", err)
			}
			close(free)
		})
	})
	t.Run("second signal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			signals := make(chan os.Signal, 1)
			signals <- syscall.SIGTERM
			start := time.Now()
			err := stopNode(func(ctx context.Context) error { <-ctx.Done(); return nil }, signals)
			if !errors.Is(err, errForced) || time.Since(start) != 0 {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
}
