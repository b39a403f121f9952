// Package kineclient runs kine's own client package on kinsy. K3s keeps its
// bootstrap data through it: certificates and tokens, under a few keys, before
// kube-apiserver is started.
//
// It is a module of its own because kine requires other versions than the
// Kubernetes tests do.
package kineclient
