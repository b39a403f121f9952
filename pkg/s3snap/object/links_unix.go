//go:build unix

package object

import (
	"io/fs"
	"syscall"
)

// onlyName reports whether a file has no other name.
func onlyName(stat fs.FileInfo) bool {
	sys, ok := stat.Sys().(*syscall.Stat_t)
	return ok && sys.Nlink == 1
}
