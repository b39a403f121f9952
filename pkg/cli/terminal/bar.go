package terminal

import (
	"fmt"
	"strconv"
	"strings"
)

// barWidth is how many characters a bar has between its brackets.
const barWidth = 24

// Bar draws how much of a whole is done, with the percentage. A whole of 0 or less draws nothing.
func Bar(done, whole int64) string {
	if whole <= 0 {
		return ""
	}
	part := min(max(float64(done)/float64(whole), 0), 1)
	full := int(part * barWidth)
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), int(part*100))
}

// Digits writes a number with commas between thousands.
func Digits(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && digits[i-1] != '-' && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// Megabytes writes bytes as millions of them.
func Megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
