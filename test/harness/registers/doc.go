// Package registers has clients that read and write a few keys, and checks that what they were told is linearizable.
//
// A Crowd is such clients at work, at one node or several. A write without an answer may have been done or not, and, until
// Bury says otherwise, at any later time; the store's history tells which. Judge then looks for one sequence of operations that
// agrees with all answers, their revisions included. Others may write to the store at the same time, to other keys.
package registers
