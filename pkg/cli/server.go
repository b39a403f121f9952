package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
	"github.com/kinsy/kinsy/pkg/node"
)

const serverCommandName = "server"

// shutdownLimit is the time a node may take to stop; forcedLimit is what it gets once it was told to stop at once.
const (
	shutdownLimit = 5 * time.Second
	forcedLimit   = time.Second
)

var (
	errForced  = errors.New("stopped at once by a second signal; everything acknowledged is on disk")
	errTooSlow = fmt.Errorf("node did not stop within %s; everything acknowledged is on disk", shutdownLimit)
)

// runner runs a node until a signal or a failure ends it.
type runner func(ctx context.Context, cfg node.Config, out io.Writer) error

func newServerCommand(run runner) *cli.Command {
	settings, flags := newServerFlags()
	return &cli.Command{
		Name:         serverCommandName,
		Usage:        "run a node",
		Flags:        flags,
		OnUsageError: usageError,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if arg := cmd.Args().First(); arg != "" {
				return fmt.Errorf("kinsy server takes flags only, not %q; see kinsy server --help", arg)
			}
			cfg, err := settings.config(cmd)
			if err != nil {
				return err
			}
			cfg.Logger = newLogger(cmd.Root().ErrWriter, settings.logFormat, settings.debug)
			if line := terminal.NewLine(cmd.Root().ErrWriter); line.Live() {
				defer line.Clear()
				cfg.Logger.SetOutput(line)
				cfg.RestoreProgress = restoringOn(line)
			}
			if names := unknownVariables(os.Environ(), flags); len(names) > 0 {
				cfg.Logger.WithField("names", names).Warn("environment variables are without effect, no flag has such a name")
			}
			return run(ctx, cfg, cmd.Root().Writer)
		},
	}
}

// runNode starts a node and stops it at the first SIGINT or SIGTERM.
func runNode(ctx context.Context, cfg node.Config, out io.Writer) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	n, err := startNode(ctx, cfg, signals)
	if n == nil || err != nil {
		return err
	}
	if cfg.Dev {
		printBanner(out, bannerOf(cfg, n), terminal.Colours(out))
	}
	var failure error
	select {
	case s := <-signals:
		cfg.Logger.WithField("signal", s.String()).Info("shutting down")
	case <-n.Done():
		failure = fmt.Errorf("node stopped: %w", n.Err())
	}
	return errors.Join(failure, stopNode(n.Close, signals))
}

// startNode starts a node; a signal meanwhile ends the start, and then neither a node nor an error is returned.
func startNode(ctx context.Context, cfg node.Config, signals <-chan os.Signal) (*node.Node, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		node *node.Node
		err  error
	}
	started := make(chan result, 1)
	go func() {
		n, err := node.Start(ctx, cfg)
		started <- result{n, err}
	}()
	select {
	case r := <-started:
		return r.node, r.err
	case <-signals:
		cfg.Logger.Info("shutting down before the node was ready")
		cancel()
	}
	select {
	case r := <-started:
		if r.node != nil {
			return nil, stopNode(r.node.Close, signals)
		}
		return nil, nil
	case <-signals:
		return nil, errForced
	}
}

// stopNode closes a node within shutdownLimit; a signal meanwhile cuts that short.
func stopNode(closeNode func(context.Context) error, signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownLimit)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- closeNode(ctx) }()
	reason := errTooSlow
	select {
	case err := <-closed:
		return err
	case <-signals:
		cancel()
		reason = errForced
	case <-ctx.Done():
	}
	select {
	case err := <-closed:
		if reason == errForced {
			return errors.Join(reason, err)
		}
		return err
	case <-time.After(forcedLimit):
		return reason
	}
}
