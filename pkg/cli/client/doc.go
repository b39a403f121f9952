// Package client holds the commands of kinsy's command line that are clients of a running server: kinsy, or anything else that
// speaks etcd's API.
//
//	get, put, del, txn, watch, lease      keys, one or many
//	history, diff, compact                what was before
//	dump, load                            keys out and in
//	bench                                 how fast it is
//
// # Servers
//
// Several endpoints are tried in turn, the first first, until a connection is made. A read goes on to the next one also when it
// is answered that the server is unavailable. A write is sent once: it goes on only where the answer says that nothing was done,
// and else the error says that the outcome is not known.
//
// # Profiles
//
// A put, and a delete of one key, is a Txn with one operation, since that is all that both of kinsy's API profiles answer. What
// a profile does not have is refused by the server, with its name and that of the profile that has it.
//
// # Output
//
// text is for people and for scripts: a key on a line, its value on the next, as etcdctl has it, and with escapes for what is
// not printable, so that a line is a key or a value whatever is in it (Escape). json is one document a line, with keys and
// values in base64, in the shape of etcd's JSON. table has columns. Colours and progress are for terminals only.
//
// # Exit status
//
// 0, 1 after an error, 2 for a command line that is not understood (ErrUsage). A get that finds nothing is no error, as in
// etcdctl.
package client
