package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"
)

const rootDescription = `kinsy keeps keys and values for Kubernetes, K3s and other clients of etcd.

   kinsy --dev                     a node for this machine: no other flag needed
   kinsy server --data-dir DIR     a node for real use
   kinsy server --help             every flag, with its environment variables`

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
	return 1
}

func newRoot(stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:        "kinsy",
		Usage:       "an etcd-compatible store",
		Description: rootDescription,
		Version:     Version(),
		Writer:      stdout,
		ErrWriter:   stderr,
		Commands: []*cli.Command{
			newServerCommand(runNode), newSnapshotCommand(), newRestoreCommand(), newExportCommand(), newImportCommand(),
			newInspectCommand(), newStatusCommand(), newMemberCommand(), newMovePrimaryCommand(), newVersionCommand(),
		},
		EnableShellCompletion: true,
		ConfigureShellCompletionCommand: func(c *cli.Command) {
			c.Hidden = false
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			if name := cmd.Args().First(); name != "" {
				return fmt.Errorf("there is no command %q; see kinsy --help", name)
			}
			return cli.ShowAppHelp(cmd)
		},
		OnUsageError:   usageError,
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
	}
}

// usageError says where help is, instead of printing all of it.
func usageError(_ context.Context, cmd *cli.Command, err error, _ bool) error {
	return fmt.Errorf("%w; see %s --help", err, cmd.FullName())
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
