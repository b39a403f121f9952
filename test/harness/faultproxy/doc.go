// Package faultproxy is an HTTP proxy in front of an S3 server that does what networks, load balancers and object stores do.
//
// A Plan says what happens: each request draws at most one Fault, by chance, from a seeded generator. Some faults keep a request
// from the store, some lose the answer of one that took effect, and some let it take effect when its client has long given up
// (Late). A Plan also limits the rate, and can give each request a least duration, so that a local store is as slow as a remote one.
//
// The proxy counts requests by operation and PUTs by object, and knows how many PUTs into one folder were under way at once.
//
// A request passed on is as the client has signed it: its Host header stays. Where a Plan takes headers away (IgnoreConditions)
// the proxy signs it again.
package faultproxy
