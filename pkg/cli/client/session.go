package client

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

// Config is what the command line as a whole gives to the commands of this package.
type Config struct {
	// Env returns the environment variable of a flag.
	Env func(flag string) cli.ValueSource
	// UsageError makes the error of flags that are not understood.
	UsageError cli.OnUsageErrorFunc
}

// Defaults of the flags that all commands have.
const (
	defaultEndpoints   = "127.0.0.1:2379"
	defaultDialLimit   = 2 * time.Second
	defaultAnswerLimit = 5 * time.Second
)

// Environment lists the flags of this package that have their values from the environment too.
func Environment() []string {
	return []string{"endpoints", "cacert", "cert", "key", "insecure-skip-tls-verify"}
}

// Commands returns the commands, in the order of the help text.
func Commands(c Config) []*cli.Command {
	return []*cli.Command{
		newGet(c), newPut(c), newDel(c), newTxn(c), newWatch(c), newLease(c), newHistory(c), newDiff(c), newCompact(c), newDump(c),
		newLoad(c), newBench(c),
	}
}

// session is one command that runs.
type session struct {
	*servers
	cmd    *cli.Command
	in     io.Reader
	out    *bufio.Writer // results
	errs   io.Writer     // everything else; it is the line's
	line   *terminal.Line
	format format
	colour bool
}

// connection is what the flags say that all commands have.
type connection struct {
	endpoints   string
	tls         TLSFiles
	dialLimit   time.Duration
	answerLimit time.Duration
	output      string
}

const categoryServer = "Server"

func (c Config) flags(to *connection, formats []format) []cli.Flag {
	text := func(to *string, name, usage string) *cli.StringFlag {
		return &cli.StringFlag{Name: name, Category: categoryServer, Usage: usage, Destination: to, Sources: cli.NewValueSourceChain(c.Env(name))}
	}
	endpoints := text(&to.endpoints, "endpoints", "`ADDRESSES` of servers, separated by commas, tried in turn: HOST:PORT, http://, https:// or unix:// before it if wanted")
	endpoints.Value = defaultEndpoints
	return []cli.Flag{
		endpoints,
		text(&to.tls.CA, "cacert", "PEM `FILE` with authorities to trust instead of the system's"),
		text(&to.tls.Cert, "cert", "PEM `FILE` with the client's certificate"),
		text(&to.tls.Key, "key", "PEM `FILE` with the key of the certificate"),
		&cli.BoolFlag{Name: "insecure-skip-tls-verify", Category: categoryServer, HideDefault: true, Destination: &to.tls.SkipVerify,
			Usage: "take any certificate of the server", Sources: cli.NewValueSourceChain(c.Env("insecure-skip-tls-verify"))},
		&cli.DurationFlag{Name: "dial-timeout", Category: categoryServer, Value: defaultDialLimit, Destination: &to.dialLimit,
			Usage: "time for the connection to one endpoint"},
		&cli.DurationFlag{Name: "command-timeout", Category: categoryServer, Value: defaultAnswerLimit, Destination: &to.answerLimit,
			Usage: "time for each answer"},
		&cli.StringFlag{Name: "output", Aliases: []string{"w"}, Usage: "format: " + formatList(formats), Value: string(formats[0]), Destination: &to.output},
	}
}

// spec is a command.
type spec struct {
	name, usage, args, description string
	formats                        []format // nil: all
	flags                          []cli.Flag
	run                            func(ctx context.Context, s *session) error
}

// command makes the command of a spec. The first SIGINT or SIGTERM ends its context; a second one ends the process at once.
func (c Config) command(sp spec) *cli.Command {
	if sp.formats == nil {
		sp.formats = allFormats
	}
	at := &connection{}
	return &cli.Command{
		Name: sp.name, Usage: sp.usage, ArgsUsage: sp.args, Description: sp.description, OnUsageError: c.UsageError, HideHelpCommand: true,
		Flags: append(sp.flags, c.flags(at, sp.formats)...),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			s, err := newSession(cmd, at, sp.formats)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
			defer stop()
			defer context.AfterFunc(ctx, stop)()
			err = sp.run(ctx, s)
			s.close()
			s.line.Clear()
			if flushed := s.out.Flush(); err == nil {
				err = flushed
			}
			if err != nil && ctx.Err() != nil {
				return fmt.Errorf("interrupted: %w", err)
			}
			return err
		},
	}
}

func newSession(cmd *cli.Command, at *connection, formats []format) (*session, error) {
	root := cmd.Root()
	s := &session{cmd: cmd, in: root.Reader, out: bufio.NewWriter(root.Writer), line: terminal.NewLine(root.ErrWriter), colour: terminal.Colours(root.Writer)}
	s.errs = s.line
	if s.in == nil {
		s.in = os.Stdin
	}
	var err error
	if s.format, err = parseFormat(at.output, formats); err != nil {
		return nil, err
	}
	config, err := at.tls.Config()
	if err != nil {
		return nil, err
	}
	if at.dialLimit <= 0 || at.answerLimit <= 0 {
		return nil, usagef("--dial-timeout and --command-timeout must be above 0")
	}
	all, err := parseEndpoints(at.endpoints, config != nil)
	s.servers = &servers{all: all, tls: config, dialLimit: at.dialLimit, answerLimit: at.answerLimit}
	return s, err
}

// args returns the arguments, of which there must be from least to most.
func (s *session) args(least, most int) ([]string, error) {
	all := s.cmd.Args().Slice()
	if len(all) < least || len(all) > most {
		return nil, usagef("%s takes %s; see %[1]s --help", s.cmd.FullName(), orNothing(s.cmd.ArgsUsage))
	}
	return all, nil
}

func orNothing(args string) string {
	if args == "" {
		return "no arguments"
	}
	return args
}

// paint paints text for a terminal.
func (s *session) paint(c terminal.Colour, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return c.Paint(text)
}

// note tells people something that is no result.
func (s *session) note(format string, args ...any) {
	fmt.Fprintf(s.errs, "kinsy: "+format+"\n", args...)
}
