package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/client"
	"github.com/kinsy/kinsy/pkg/cli/newfile"
	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

// session is what a command has that works without a node.
type session struct {
	cmd  *cli.Command
	in   io.Reader
	out  io.Writer // results
	errs io.Writer // everything else
	log  *logrus.Logger
	line *terminal.Line
}

// offline makes an action of a command that works without a node. The first SIGINT or SIGTERM ends the command's context;
// a second one ends the process at once.
func offline(run func(ctx context.Context, s *session) error) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		root := cmd.Root()
		s := &session{cmd: cmd, in: root.Reader, out: root.Writer, errs: root.ErrWriter, line: terminal.NewLine(root.ErrWriter)}
		if s.in == nil {
			s.in = os.Stdin
		}
		s.log = newLogger(root.ErrWriter, logPlain, false)
		s.log.SetOutput(s.line)
		if s.line.Live() {
			s.log.SetLevel(logrus.WarnLevel)
		}
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		err := run(ctx, s)
		s.line.Clear()
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", err)
		}
		return err
	}
}

// parent is a command that has only commands below it.
func parent(name, usage string, commands ...*cli.Command) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, Commands: commands, OnUsageError: usageError,
		Action: func(_ context.Context, cmd *cli.Command) error {
			if arg := cmd.Args().First(); arg != "" {
				return client.Misuse(fmt.Errorf("there is no command %q; see %s --help", arg, cmd.FullName()))
			}
			defer fmt.Fprintln(cmd.Root().Writer)
			return cli.ShowSubcommandHelp(cmd)
		},
	}
}

// flagsOnly refuses arguments.
func (s *session) flagsOnly() error {
	if arg := s.cmd.Args().First(); arg != "" {
		return client.Misuse(fmt.Errorf("%s takes flags only, not %q; see %[1]s --help", s.cmd.FullName(), arg))
	}
	return nil
}

// choose returns the one flag of several that has a value. Flags that have theirs from the environment or from a file
// count only where the command line has none of them.
func (s *session) choose(names ...string) (string, error) {
	var given, other []string
	for _, name := range names {
		switch {
		case !s.set(name):
		case s.fromElsewhere(name):
			other = append(other, name)
		default:
			given = append(given, name)
		}
	}
	if len(given) == 0 {
		given = other
	}
	switch len(given) {
	case 0:
		return "", fmt.Errorf("one of %s must be given", flagList(names))
	case 1:
		return given[0], nil
	}
	return "", fmt.Errorf("%s exclude each other", flagList(given))
}

// set reports whether a flag has a value other than none.
func (s *session) set(name string) bool {
	if b, ok := s.cmd.Value(name).(bool); ok {
		return b
	}
	return s.cmd.IsSet(name) && s.cmd.Value(name) != ""
}

// fromElsewhere reports whether a flag has the value that the environment or the file has for it.
func (s *session) fromElsewhere(name string) bool {
	for _, f := range s.cmd.Flags {
		if text, ok := f.(*cli.StringFlag); ok && text.Name == name {
			value, found := text.Sources.Lookup()
			return found && value == s.cmd.String(name)
		}
	}
	return false
}

// useless refuses flags that say nothing where another one is missing.
func (s *session) useless(missing string, names ...string) error {
	for _, name := range names {
		if s.set(name) && !s.fromElsewhere(name) {
			return fmt.Errorf("--%s needs %s", name, missing)
		}
	}
	return nil
}

func flagList(names []string) string {
	text := "--" + names[0]
	for i, name := range names[1:] {
		if i == len(names)-2 {
			text += " and --" + name
		} else {
			text += ", --" + name
		}
	}
	return text
}

func newForceFlag(usage string) cli.Flag {
	return &cli.BoolFlag{Name: newfile.ForceFlag, Usage: usage, HideDefault: true}
}

// tempFolder makes a folder for what a command needs only while it runs; remove removes it.
func tempFolder() (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp("", "kinsy-")
	if err != nil {
		return "", nil, fmt.Errorf("create temporary folder: %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// closing runs f at the end of a function and joins its error.
func closing(err *error, f func() error) { *err = errors.Join(*err, f()) }

// contextReader ends with the context's error once that ends.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}
