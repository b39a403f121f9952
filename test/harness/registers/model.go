package registers

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// Prefix is that of the registers' keys.
const Prefix = "/register/"

// registerCount is how many of them the clients use.
const registerCount = 5

// register is a key that clients read and write; zero means that it is not there.
type register struct {
	value string
	mod   int64
}

// registers is the state of the model: all keys and the revision. A read must see exactly one such state. Where
// others write to the store too the revision may also grow between two operations.
type registers struct {
	revision int64
	keys     [registerCount]register
	alone    bool // nobody else writes: each change is of the next revision
}

type action int

const (
	getOne action = iota
	getAll
	putOne
	swapOne
	deleteOne
)

// request is an operation on the registers.
type request struct {
	action action
	key    int
	value  string // of a put or swap
	seen   int64  // modification revision that a swap or delete requires
}

func (r request) writes() bool { return r.action >= putOne }

// String names the operation.
func (r request) String() string {
	switch r.action {
	case getOne:
		return fmt.Sprintf("get %d", r.key)
	case getAll:
		return "get all"
	case putOne:
		return fmt.Sprintf("put %d=%s", r.key, r.value)
	case swapOne:
		return fmt.Sprintf("put %d=%s if at %d", r.key, r.value, r.seen)
	default:
		return fmt.Sprintf("delete %d if at %d", r.key, r.seen)
	}
}

// answer is what the store said. keys holds what a read, or a write whose condition did not hold, has seen.
type answer struct {
	done     bool // the condition held
	revision int64
	keys     [registerCount]register
}

// modelFrom is the store as a sequence of operations, one after another, that begins with a state.
func modelFrom(first registers) porcupine.Model {
	return porcupine.Model{
		Init:  func() any { return first },
		Equal: func(a, b any) bool { return a.(registers) == b.(registers) },
		Step: func(s, in, out any) (bool, any) {
			return step(s.(registers), in.(request), out.(answer))
		},
		DescribeOperation: func(in, out any) string {
			a := out.(answer)
			return fmt.Sprintf("%v -> %t at %d", in.(request), a.done, a.revision)
		},
		DescribeState: func(s any) string { return fmt.Sprintf("%+v", s) },
	}
}

// step is one operation of the model: whether its answer may be, and the state after it.
func step(s registers, r request, a answer) (bool, registers) {
	if a.revision < s.revision || s.alone && a.revision > s.revision+1 {
		return false, s
	}
	old := s.revision
	if s.alone && a.revision > old && !(r.writes() && a.done) {
		return false, s
	}
	s.revision = a.revision
	switch r.action {
	case getAll:
		return a.keys == s.keys, s
	case getOne:
		return a.keys[r.key] == s.keys[r.key], s
	}
	if holds := r.action == putOne || s.keys[r.key].mod == r.seen; !holds {
		return !a.done && a.keys[r.key] == s.keys[r.key], s
	}
	s.keys[r.key] = register{value: r.value, mod: s.revision}
	if r.action == deleteOne {
		s.keys[r.key] = register{}
	}
	return a.done && a.revision > old, s
}
