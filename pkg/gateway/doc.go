// Package gateway is the REST and WebSocket front of a kinsy node: AntiEtcd's
// contract over the engine that gRPC clients use, so that all see one store. It
// holds no data.
//
// # HTTP
//
// A call is a POST of one JSON object below /v3/ with Content-Type
// application/json; the path without its slashes names it:
//
//	/v3/kv/txn, /v3/kv/put, /v3/kv/range, /v3/kv/deleterange
//	/v3/lease/grant, /v3/lease/keepalive, /v3/lease/revoke, /v3/kv/lease/revoke
//	/v3/maintenance/status
//	/v3/lease/timetolive, /v3/lease/leases, /v3/kv/compaction   etcd's
//	/v3/watch, /watch     WebSocket
//	/v3/watch             POST: etcd's stream of answers, one JSON object a line
//
// A request passes in this order: Content-Type, method, size, JSON, the flags
// leaderonly and nowaitquorum, decoding (decode.go and the file of the verb), the
// limits that gRPC has (server.Limits), the engine, errors.go. API does the same
// without HTTP.
//
// Names are read in snake_case and camelCase; integers as numbers and as decimal
// strings. Answers have integers as numbers up to 2^53-1, which every JSON reader
// keeps, and as decimal strings beyond. Keys and values are base64. A lease id is a
// string of 16 hex digits; a request may also have etcd's decimal form, as a number
// or as a string of another length.
//
// Errors are text that ends in a newline:
//
//	400 the request is wrong, or refused by the store   404 no such URL
//	403 a web page of another origin                    405 the method is not POST
//	501 the feature is not there                        502 the node stops
//	503 no Primary, no quorum, no room, or not in time  500 a fault of kinsy
//
// # A put that changes nothing
//
// A put of the value and lease that a key already has makes no revision. It goes to
// the engine as a Txn of its own, nested in the client's: compare value and lease,
// and put if they differ. So it is decided where writes are ordered, and a Txn of
// many puts remains one revision, all or none.
//
// # WebSocket
//
// A connection has one stream of the engine, three goroutines (conn.go): receive
// turns messages into watches, deliver takes the stream's responses in order and
// writes frames, ping looks whether the client is there. A watch of a connection:
//
//	state      event                                    next
//	(none)     create_request                           asked; refused if id or range is wrong: canceled with a reason
//	(none)     create_request, its id is in use         nothing: the watch goes on
//	asked      the engine has it                        created, said by a frame before all its events
//	created    start_revision is below what is kept     canceled, with compact_revision
//	created    events                                   created; behind if the client does not read (the engine reads from the log)
//	created    cancel_request                           canceled, said by a frame; its id is free at once
//	any        client leaves, node stops                (none)
//
// The connection:
//
//	state      event                                    next
//	open       a message that is no JSON, or is empty   open, with {"error": ...}; one that is not known is passed over
//	open       no answer to a ping, nothing else moves  closed
//	open       one frame is not taken in WriteTimeout   closed
//	open       a message beyond the limit               closed (1009)
//	open       the node stops                           closed (1001)
//
// Events of one revision leave in one frame, those of all watches of the connection
// merged, one entry a key (merge.go). With several watches frames wait for the
// engine's word that every event up to a revision was handed out (a progress
// response), so that header.revision of a frame says up to where a client that
// resumes has everything, of the watches that were created before. While one watch reads a long history, what waits is
// bounded: then frames go out as they are, and say the last revision that is safe.
//
// # Sources
//
// AntiEtcd 1.3.1 (the package antietcd of npm) as observed, its readme, etcd's JSON
// gateway (RPC names and JSON forms of its protobuf messages), RFC 6455.
package gateway
