// Package cli is kinsy's command line: commands, flags, environment and configuration file.
//
//	kinsy --dev                  the same as kinsy server --dev
//	kinsy server [flags]         runs a node until SIGINT or SIGTERM
//	kinsy get, put, del, txn     keys of a running server (package client, docs/CLI.md); so are all up to bench
//	kinsy watch                  prints changes, or runs a command for each
//	kinsy lease                  grants, renews and revokes leases
//	kinsy history, diff, compact what was before
//	kinsy dump, load             keys out and in
//	kinsy bench                  measures a server
//	kinsy snapshot save          takes a snapshot, of object storage or of a log, without a node
//	kinsy snapshot list          lists the snapshots in object storage
//	kinsy snapshot verify [ID]   checks every byte of them, and of the chunks
//	kinsy restore                makes a new cluster of what object storage or a snapshot holds
//	kinsy export                 writes JSON lines or an etcd database
//	kinsy import                 reads them, or a running server
//	kinsy inspect FILE           prints and checks a chunk or a snapshot
//	kinsy status                 asks every node of a cluster how it is
//	kinsy member list            lists the nodes of a cluster
//	kinsy member remove NAME     takes the vote of a node away that is gone
//	kinsy member force NAME...   sets the voters when a majority of disks is lost for good
//	kinsy move-primary NODE      makes another node primary
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
// # Commands without a node
//
// The flags of object storage have their values from all the sources above; those that name what a command reads or writes
// come from the command line alone, and there they win over an object store that the environment or the file names. A data
// folder is locked as a node locks it. What is written appears complete or not at all, for its owner only, and replaces
// nothing unless --force is given. The exit code is 1 after any error, and for damage that verify and inspect find; it is 2 where flags
// or arguments are not understood, of every command.
//
// # Commands for a cluster
//
// They find the nodes in object storage and ask them over the peer port, as --insecure-peers or with the certificate of any
// node; member list and force ask nobody what they do not have to. --cluster-id is only compared with what object storage says.
// The exit code of status is also 1 where there is no Primary, or a voter is not healthy.
//
// # Signals
//
// A command without a node ends at the first one, removes what it has not finished, and exits with 1.
//
// Of a node the first SIGINT or SIGTERM drains and stops the node within 5 s and exits with 0; a second one stops it at once and
// exits with 1.
package cli
