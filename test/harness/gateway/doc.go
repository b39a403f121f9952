// Package gateway runs a real S3 server for tests: versitygw (build.Gateway) with its posix backend, on loopback, with its data
// in a folder. It is a process of its own; none of its code is linked into a test.
//
// An object is a file below the bucket's folder (Gateway.Dir), so a test can also do what no request can: look for plaintext,
// damage an object, or make it older than it is.
package gateway
