// Package cli is kinsy's command line: commands, flags, environment and configuration file.
//
//	kinsy --dev                  the same as kinsy server --dev
//	kinsy server [flags]         runs a node until SIGINT or SIGTERM
//	kinsy version                prints the version
//	kinsy completion SHELL       prints a completion script
//
// Where the first argument is a flag, the command is server; so the flags that kine takes work as they stand.
//
// # Precedence
//
// The value of a flag comes from the first of these that has it:
//
//  1. the command line
//  2. KINSY_NAME in the environment, NAME being the flag's name in capitals with underscores
//  3. KINE_NAME in the environment, where kine has a flag of that name
//  4. the YAML file named by --config or KINSY_CONFIG; its keys are the flags' names, others are refused
//  5. the default
//
// An empty environment variable counts as not set. kinsy.example.yaml beside this file lists every key.
//
// # Signals
//
// The first SIGINT or SIGTERM drains and stops the node within 5 s and exits with 0; a second one stops it at once and
// exits with 1.
package cli
