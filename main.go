// Kinsy is an etcd-compatible, replicated key-value server.
package main

import (
	"os"

	"github.com/kinsy/kinsy/pkg/cli"
)

func main() {
	os.Exit(cli.Main(os.Args, os.Stdout, os.Stderr))
}
