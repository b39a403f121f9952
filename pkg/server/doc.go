// Package server is the etcd gRPC front of a kinsy node: it checks requests,
// calls the engine, maps errors and fills response headers. It holds no data.
//
// # Request flow
//
// A unary request passes, in this order:
//
//  1. gRPC: TLS, keepalive enforcement, message size limit (MaxRequestBytes
//     plus 512 KiB), decoding.
//  2. The one interceptor (interceptor.go): counts the request, refuses it
//     with Unimplemented when the API profile does not have the RPC
//     (profile.go), refuses it with "no leader" when the client asked for a
//     leader and the engine is not healthy, recovers from a panic.
//  3. The handler of the verb (one file per verb): checks the fields
//     (check.go, spans.go), the profile's rules for a Txn (profile.go) and the
//     encoded size (size.go), calls the engine (engine.go).
//  4. errors.go maps the engine's sentinels to etcd's status codes and texts.
//  5. The handler fills ClusterId and MemberId in the header of the response.
//     The engine has set Revision already. RaftTerm stays 0.
//
// Put and DeleteRange become a Txn with a single operation before they reach
// the engine, so that there is one write path.
//
// # Watch
//
// A Watch RPC owns one engine watch stream. One goroutine receives client
// requests and turns them into Create, Cancel and Progress calls; the handler's
// own goroutine takes responses with Next, in order, and sends them. Every
// response the client sees comes out of Next, so order is decided in one place.
// The Fragment flag of a watch travels in a queue from the receiver to the
// sender, which pops one entry per `created` response.
//
// # Snapshot
//
// The engine makes an etcd database file in a folder of its own (snapshot.go);
// it is then sent with etcd's framing: messages of 32 KiB that tell how many
// bytes remain, the SHA-256 as the last one. One snapshot is made and sent at a
// time, others wait. The folder is removed in every case: when the stream ends,
// and by New where a crash has left it.
//
// # Shutdown
//
// GracefulStop stops accepting, ends watch and keepalive streams with "server
// stopped" (clients resume elsewhere), waits for running unary requests until
// its context ends, then closes what is left. It returns when every goroutine
// the server started has ended.
//
// # Profiles
//
// ProfileNetsy answers the RPCs of the netsy table only and limits a Txn to one
// mutation of one key in each branch. ProfileEtcd answers all that the engine
// can do. Tables are in profile.go; a test walks every RPC of every service.
package server
