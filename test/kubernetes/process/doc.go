// Package process builds the programs that the Kubernetes tests need and runs
// them as child processes: kinsy in either API profile, the etcd server that
// gives the reference results, kube-apiserver and kubectl.
//
// A Process is one running program: its output goes to a file, its end is a
// channel, and it is ended by its own process id, never by name. A Store is a
// Process that serves the etcd API; it keeps its ports and its data folder when
// it is started again, so that clients see an outage and nothing else.
//
// Nothing here waits for a fixed time: Until polls a condition until it holds
// or the context ends, and reports the last thing that was wrong.
package process
