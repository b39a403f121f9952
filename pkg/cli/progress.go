package cli

import (
	"fmt"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
	"github.com/kinsy/kinsy/pkg/s3snap"
)

// restoringOn shows on a line how far a restore is, until that is done.
func restoringOn(line *terminal.Line) func(s3snap.Progress) {
	return func(p s3snap.Progress) {
		if p.Done {
			line.Clear()
			return
		}
		line.Show(describeProgress(p))
	}
}

// describeProgress fits into 80 columns.
func describeProgress(p s3snap.Progress) string {
	text := "restoring: "
	switch {
	case p.SnapshotRows > 0 && p.Rows < p.SnapshotRows:
		text += fmt.Sprintf("%d%% of the snapshot, ", 100*p.Rows/p.SnapshotRows)
	case p.SnapshotRows > 0:
		text += "snapshot done, "
	}
	text += terminal.Digits(p.Rows) + " rows, " + terminal.Megabytes(p.Bytes)
	if seconds := p.Elapsed.Seconds(); seconds > 0 {
		text += ", " + terminal.Digits(int64(float64(p.Rows)/seconds)) + " rows/s"
	}
	return text
}
