//go:build !unix

package object

import "io/fs"

// onlyName reports whether a file is known to have no other name.
func onlyName(fs.FileInfo) bool { return false }
