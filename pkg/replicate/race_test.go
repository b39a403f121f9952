//go:build race

package replicate

// raceEnabled: SQLite is some thirty times slower under the race detector.
const raceEnabled = true
