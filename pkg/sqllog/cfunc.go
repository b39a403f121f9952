package sqllog

import "unsafe"

// What SQLite calls is called by C's rules: the driver is C that was translated to Go.

// at gives a pointer to memory that libc manages.
func at[T any](p uintptr) *T { return (*T)(*(*unsafe.Pointer)(unsafe.Pointer(&p))) }

// cFunc makes a C function pointer of a function that is no closure.
func cFunc[T any](f T) uintptr {
	return *(*uintptr)(unsafe.Pointer(&struct{ f T }{f}))
}

// goFunc makes a C function pointer callable.
func goFunc[T any](p uintptr) T { return *(*T)(unsafe.Pointer(&struct{ p uintptr }{p})) }
