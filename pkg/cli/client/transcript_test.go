package client

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/pkg/node"
)

// varying is what differs from one run to the next.
var varying = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`"(cluster|member)_id":\d+`), `"${1}_id":1`},
	{regexp.MustCompile(`remaining\(\d+s\)`), "remaining(Ns)"},
}

// transcript runs the command lines of a file and compares what they print with what the file says. A line "$ ARGS" is a
// command, one "< TEXT" a line of its input; what follows is its output, its error, and its status if that is not 0.
func transcript(t *testing.T, s *server, name string) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], "# ") {
			fmt.Fprintln(&got, lines[i])
		}
		line, ok := strings.CutPrefix(lines[i], "$ ")
		if !ok {
			continue
		}
		fmt.Fprintln(&got, lines[i])
		var in strings.Builder
		for i+1 < len(lines) && (strings.HasPrefix(lines[i+1], "< ") || lines[i+1] == "<") {
			i++
			fmt.Fprintln(&got, lines[i])
			fmt.Fprintln(&in, strings.TrimPrefix(strings.TrimPrefix(lines[i], "<"), " "))
		}
		got.WriteString(s.transcribe(in.String(), line))
	}
	golden(t, name, got.String())
}

func (s *server) transcribe(in, line string) string {
	s.t.Helper()
	all, err := words(line)
	if err != nil {
		s.t.Fatal(err)
	}
	args := make([]string, len(all))
	for i := range all {
		args[i] = all[i].text
	}
	var out, errs bytes.Buffer
	err = command(s.t.Context(), strings.NewReader(in), &out, &errs, s.args(args...)...)
	for _, v := range varying {
		text := v.what.ReplaceAllString(out.String(), v.by)
		out.Reset()
		out.WriteString(text)
	}
	if out.Len() > 0 && !strings.HasSuffix(out.String(), "\n") {
		out.WriteString("(no line feed)\n")
	}
	out.Write(errs.Bytes())
	switch {
	case errors.Is(err, ErrUsage):
		fmt.Fprintf(&out, "error: %v\nstatus 2\n", err)
	case err != nil:
		fmt.Fprintf(&out, "error: %v\nstatus 1\n", err)
	}
	return out.String()
}

func TestTranscriptEtcd(t *testing.T) { transcript(t, startServer(t, node.APIEtcd), "etcd.txt") }

func TestTranscriptNetsy(t *testing.T) { transcript(t, startServer(t, node.APINetsy), "netsy.txt") }
