package client

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"":               "",
		"/a b/é":         "/a b/é",
		"a\\b":           `a\\b`,
		"1\n2\r3\t4":     `1\n2\r3\t4`,
		"\x00\x1b[31m":   `\x00\x1b[31m`,
		"\xff\xc3":       `\xff\xc3`,
		"\u202e\u200b":   `\xe2\x80\xae\xe2\x80\x8b`,
		"\ufffd":         "\ufffd",
		"x\u00a0y":       `x\xc2\xa0y`,
		"{\"a\": \"b\"}": `{"a": "b"}`,
	} {
		if got := Escape([]byte(in)); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	for _, text := range []string{`\`, `a\`, `\a`, `\x`, `\x1`, `\xg0`, `\x+1`, `\u1234`} {
		if b, err := Unescape(text); !errors.Is(err, errEscape) {
			t.Errorf("%s: %q, %v", text, b, err)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add([]byte("a\\\n\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		text := Escape(b)
		if strings.ContainsAny(text, "\n\r\t\x1b\x00") {
			t.Errorf("%q is not one line", text)
		}
		back, err := Unescape(text)
		if err != nil || !bytes.Equal(back, b) {
			t.Errorf("%q became %q: %v", b, back, err)
		}
	})
}
