// Package history is what a store tells of its keys: events and whole watches (Follower), keys (Record), and the content that
// events lead to (State).
//
// A test's writes are one revision each, and every revision has an event, so a history is complete if its revisions are
// contiguous.
package history
