// Package ledger holds what clients did to a store, and compares it with the history that the store tells.
//
// A Writer sends one request at a time; each is unlike all others, so each revision is one known write. A Squad is a number of
// writers at work. What they did is a Ledger; the ledgers of several squads may be merged and checked together.
package ledger
