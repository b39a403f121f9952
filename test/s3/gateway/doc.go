// Package gateway runs a real S3 server for tests: versitygw with its posix backend, on loopback, with its data in a folder.
//
// An object is a file below the bucket's folder (Gateway.Dir), so a test can also do what no request can: look for plaintext,
// damage an object, or make it older than it is.
package gateway
