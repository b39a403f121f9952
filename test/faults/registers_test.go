package faults

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

const (
	registerPrefix = "/register/"
	registerCount  = 5
)

// register is a key of the linearizability test; zero means that it is not there.
type register struct {
	value string
	mod   int64
}

// registers is the state of the model: all keys and the revision. A read must see exactly one such state.
type registers struct {
	revision int64
	keys     [registerCount]register
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

// registerModel is the store as a sequence of operations, one after another.
var registerModel = porcupine.Model{
	Init:  func() any { return registers{revision: 1} },
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

func step(s registers, r request, a answer) (bool, registers) {
	switch r.action {
	case getAll:
		return a.revision == s.revision && a.keys == s.keys, s
	case getOne:
		return a.revision == s.revision && a.keys[r.key] == s.keys[r.key], s
	}
	if holds := r.action == putOne || s.keys[r.key].mod == r.seen; !holds {
		return !a.done && a.revision == s.revision && a.keys[r.key] == s.keys[r.key], s
	}
	s.revision++
	s.keys[r.key] = register{value: r.value, mod: s.revision}
	if r.action == deleteOne {
		s.keys[r.key] = register{}
	}
	return a.done && a.revision == s.revision, s
}
