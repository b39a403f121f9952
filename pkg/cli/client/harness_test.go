package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/urfave/cli/v3"
	"go.uber.org/goleak"

	"github.com/kinsy/kinsy/pkg/node"
)

// testLimit bounds everything a test waits for; it is far above what is expected.
const testLimit = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noVariables is an environment without variables.
type noVariables struct{}

func (noVariables) Lookup() (string, bool) { return "", false }
func (noVariables) String() string         { return "nothing" }
func (noVariables) GoString() string       { return "nothing" }

// output is what a command writes; it may be read meanwhile.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newOutput() *output { return &output{more: make(chan struct{}, 1)} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.more <- struct{}{}:
	default:
	}
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// waitFor returns once a text was written.
func (o *output) waitFor(t *testing.T, text string) {
	t.Helper()
	limit := time.After(testLimit)
	for !strings.Contains(o.String(), text) {
		select {
		case <-o.more:
		case <-limit:
			t.Fatalf("%q does not appear in:\n%s", text, o.String())
		}
	}
}

// command runs a command line, without the program's name.
func command(ctx context.Context, in io.Reader, out, errs io.Writer, args ...string) error {
	refuse := func(_ context.Context, _ *cli.Command, err error, _ bool) error { return Misuse(err) }
	root := &cli.Command{
		Name: "kinsy", Writer: out, ErrWriter: errs, Reader: in, ExitErrHandler: func(context.Context, *cli.Command, error) {},
		Commands: Commands(Config{Env: func(string) cli.ValueSource { return noVariables{} }, UsageError: refuse}),
	}
	return root.Run(ctx, append([]string{"kinsy"}, args...))
}

// server is a node under test, and its address.
type server struct {
	t       *testing.T
	config  node.Config
	node    *node.Node
	address string
}

// startServer starts a node with an API profile.
func startServer(t *testing.T, api string) *server {
	t.Helper()
	c := node.DefaultConfig(false)
	c.API, c.DataDir, c.ListenAddress, c.MetricsBindAddress, c.CompactInterval = api, t.TempDir(), "127.0.0.1:0", node.MetricsOff, 0
	c.Logger, _ = logtest.NewNullLogger()
	c.Logger.SetLevel(logrus.PanicLevel)
	s := &server{t: t, config: c}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *server) start() {
	s.t.Helper()
	n, err := node.Start(s.t.Context(), s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.node, s.address = n, n.Addrs()[0]
	s.config.ListenAddress = s.address
}

func (s *server) stop() {
	if s.node == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	if err := s.node.Close(ctx); err != nil {
		s.t.Error(err)
	}
	s.node = nil
}

// args puts the server into a command line.
func (s *server) args(args ...string) []string {
	if args[0] == "lease" {
		return append([]string{"lease", args[1], "--endpoints", s.address}, args[2:]...)
	}
	return append([]string{args[0], "--endpoints", s.address}, args[1:]...)
}

// done runs a command that must succeed, and returns its output.
func (s *server) done(args ...string) string {
	s.t.Helper()
	return s.doneWith("", args...)
}

func (s *server) doneWith(in string, args ...string) string {
	s.t.Helper()
	var out, errs bytes.Buffer
	if err := command(s.t.Context(), strings.NewReader(in), &out, &errs, s.args(args...)...); err != nil {
		s.t.Fatalf("%v: %v %s", args, err, errs.String())
	}
	return out.String()
}

// refused runs a command that must fail, and say why.
func (s *server) refused(why string, args ...string) {
	s.t.Helper()
	var out, errs bytes.Buffer
	err := command(s.t.Context(), strings.NewReader(""), &out, &errs, s.args(args...)...)
	if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "\n") {
		s.t.Errorf("%v: error %v, want %q\n%s", args, err, why, out.String())
	}
}

// background runs a command until it ends or is stopped.
type background struct {
	out, errs *output
	stop      context.CancelFunc
	err       chan error
}

func (s *server) background(args ...string) *background {
	ctx, stop := context.WithCancel(s.t.Context())
	b := &background{out: newOutput(), errs: newOutput(), stop: stop, err: make(chan error, 1)}
	go func() { b.err <- command(ctx, strings.NewReader(""), b.out, b.errs, s.args(args...)...) }()
	s.t.Cleanup(stop)
	return b
}

// wait returns the error with which it ended.
func (b *background) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-b.err:
		return err
	case <-time.After(testLimit):
		t.Fatal("did not end in time")
		return nil
	}
}

func equal(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// writeFile writes a file in a folder of the test's, and returns its path.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "file")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}
