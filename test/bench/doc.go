// Command bench puts one kind of load on a server of etcd's API and reports
// throughput, latencies and the server's CPU time per operation. It talks raw
// gRPC, one connection for every ten clients, and takes any server, so that
// peers can be measured in turn with the same load:
//
//	go run . -endpoint 127.0.0.1:2379 -pid $(pidof kinsy) -load put -clients 100 -duration 10s
//
// Loads: put (Txn that puts a new key), overwrite (Txn that puts one of 1,000
// keys), get (linearizable), page (list of 500 of the keys put).
package main
