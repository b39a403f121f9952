package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/client"
)

const rootDescription = `kinsy keeps keys and values for Kubernetes, K3s and other clients of etcd.

   kinsy --dev                     a node for this machine: no other flag needed
   kinsy server --data-dir DIR     a node for real use
   kinsy server --help             every flag, with its environment variables
   kinsy get --prefix /            the keys of a server: KINSY_ENDPOINTS, or --endpoints`

// Exit codes.
const (
	exitError = 1
	exitUsage = 2 // the command line is not understood
)

// Main runs the command line args, of which the first is the program's name, and returns the exit code. Errors go to
// stderr, one line each.
func Main(args []string, stdout, stderr io.Writer) int {
	err := newRoot(stdout, stderr).Run(context.Background(), withDefaultCommand(args))
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(stderr, "kinsy: %s\n", line)
	}
	if errors.Is(err, client.ErrUsage) {
		return exitUsage
	}
	return exitError
}

func newRoot(stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:                  "kinsy",
		Usage:                 "an etcd-compatible store",
		Description:           rootDescription,
		Version:               Version(),
		Writer:                stdout,
		ErrWriter:             stderr,
		Commands:              commands(),
		EnableShellCompletion: true,
		ConfigureShellCompletionCommand: func(c *cli.Command) {
			c.Hidden = false
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			if name := cmd.Args().First(); name != "" {
				return client.Misuse(fmt.Errorf("there is no command %q; see kinsy --help", name))
			}
			return cli.ShowAppHelp(cmd)
		},
		OnUsageError:   usageError,
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
	}
}

// commands are in the order of the help text: a node, its keys, its data without it, a cluster.
func commands() []*cli.Command {
	all := []*cli.Command{newServerCommand(runNode)}
	all = append(all, client.Commands(client.Config{
		Env:        func(flag string) cli.ValueSource { return envSource(envName(kinsyPrefix, flag)) },
		UsageError: usageError,
	})...)
	return append(all, newSnapshotCommand(), newRestoreCommand(), newExportCommand(), newImportCommand(),
		newInspectCommand(), newStatusCommand(), newMemberCommand(), newMovePrimaryCommand(), newVersionCommand())
}

// usageError says where help is, instead of printing all of it.
func usageError(_ context.Context, cmd *cli.Command, err error, _ bool) error {
	return client.Misuse(fmt.Errorf("%w; see %s --help", err, cmd.FullName()))
}

// withDefaultCommand puts the command server before a flag that the program itself does not have.
func withDefaultCommand(args []string) []string {
	if len(args) < 2 || !strings.HasPrefix(args[1], "-") {
		return args
	}
	switch args[1] {
	case "-h", "--help", "-v", "--version", "--generate-shell-completion":
		return args
	}
	return append([]string{args[0], serverCommandName}, args[1:]...)
}
