package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/client"
)

// Prefixes of environment variables.
const (
	kinsyPrefix = "KINSY_"
	kinePrefix  = "KINE_"
)

// envSource is an environment variable; an empty one counts as not set.
type envSource string

var (
	_ cli.ValueSource    = envSource("")
	_ cli.EnvValueSource = envSource("")
)

// Lookup returns the variable's value.
func (e envSource) Lookup() (string, bool) {
	value := os.Getenv(string(e))
	return value, value != ""
}

// IsFromEnv says that the source is an environment variable, for the help text.
func (e envSource) IsFromEnv() bool { return true }

// Key returns the variable's name.
func (e envSource) Key() string { return string(e) }

// String returns the source as an error names it.
func (e envSource) String() string { return "environment variable " + string(e) }

// GoString returns the source for debugging.
func (e envSource) GoString() string { return fmt.Sprintf("envSource(%q)", string(e)) }

// fileSource is one key of the configuration file.
type fileSource struct {
	file *configFile
	key  string
}

var _ cli.ValueSource = fileSource{}

// Lookup returns the key's value, and loads the file if that was not done yet.
func (s fileSource) Lookup() (string, bool) {
	entry, ok := s.file.lookup(s.key)
	return entry.value, ok
}

// String returns the source as an error names it.
func (s fileSource) String() string {
	entry, _ := s.file.lookup(s.key)
	return fmt.Sprintf("%s:%d", s.file.path(), entry.line)
}

// GoString returns the source for debugging.
func (s fileSource) GoString() string { return fmt.Sprintf("fileSource(%q)", s.key) }

// envName returns the environment variable of a flag.
func envName(prefix, flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// unknownVariables returns the names of KINSY_ variables that belong to no flag. Those that Kubernetes makes of a service
// named kinsy are left out, and those that other commands know.
func unknownVariables(environ []string, flags []cli.Flag) []string {
	known := make(map[string]bool)
	for _, name := range client.Environment() {
		known[envName(kinsyPrefix, name)] = true
	}
	for _, f := range flags {
		for _, name := range f.Names() {
			known[envName(kinsyPrefix, name)] = true
		}
	}
	var unknown []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		other := strings.HasPrefix(name, kinsyPrefix+"PORT") || strings.HasPrefix(name, kinsyPrefix+"SERVICE_") || strings.HasPrefix(name, client.EventPrefix)
		if strings.HasPrefix(name, kinsyPrefix) && !known[name] && !other {
			unknown = append(unknown, name)
		}
	}
	return unknown
}
