//go:build kinsysim

package rules

var broken [Count + 1]bool

// Broken reports whether a rule is broken on purpose.
func Broken(r Rule) bool { return broken[r] }

// Break breaks a rule until the function that it returns is called. Nothing that
// asks for it may run meanwhile.
func Break(r Rule) (restore func()) {
	broken[r] = true
	return func() { broken[r] = false }
}
