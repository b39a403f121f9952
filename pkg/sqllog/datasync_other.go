//go:build !linux

package sqllog

// fileLayer names the layer that connections use; empty is SQLite's ordinary one.
func fileLayer() string { return "" }
