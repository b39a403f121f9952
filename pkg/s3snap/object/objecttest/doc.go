// Package objecttest is the conformance suite of object.Store: what every store must do, whatever it is made of.
package objecttest
