// Package peerpb holds what pkg/peer sends: peer.proto, and the Go code that make proto generates from it.
package peerpb
