package cli

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/node"
)

// version is set by the linker: -ldflags "-X github.com/kinsy/kinsy/pkg/cli.version=1.2.3".
var version string

// Version returns kinsy's version: the linker's, else that of the module, else "dev".
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

func newVersionCommand() *cli.Command {
	return &cli.Command{
		Name:         "version",
		Usage:        "print the version",
		OnUsageError: usageError,
		Action: func(_ context.Context, cmd *cli.Command) error {
			_, err := fmt.Fprintf(cmd.Root().Writer, "kinsy %s\netcd API %s\n%s %s/%s\n",
				Version(), node.DefaultEmulatedEtcdVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
