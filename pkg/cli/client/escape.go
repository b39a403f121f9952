package client

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// Escape writes bytes as a line of text: what is printable stays, a backslash is doubled, and line feed, carriage return, tab
// and all other bytes become \n, \r, \t and \xHH. Unescape gives the bytes back.
func Escape(b []byte) string {
	var text strings.Builder
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		switch {
		case r == '\\':
			text.WriteString(`\\`)
		case r == '\n':
			text.WriteString(`\n`)
		case r == '\r':
			text.WriteString(`\r`)
		case r == '\t':
			text.WriteString(`\t`)
		case (r != utf8.RuneError || size > 1) && strconv.IsPrint(r):
			text.WriteRune(r)
		default:
			for _, c := range b[:size] {
				text.WriteString(`\x`)
				text.WriteByte(hexDigits[c>>4])
				text.WriteByte(hexDigits[c&15])
			}
		}
		b = b[size:]
	}
	return text.String()
}

// errEscape: a backslash begins none of the escapes.
var errEscape = errors.New(`a backslash must begin \\, \n, \r, \t or \xHH`)

// Unescape reads what Escape has written.
func Unescape(text string) ([]byte, error) {
	b := make([]byte, 0, len(text))
	for {
		plain, rest, found := strings.Cut(text, `\`)
		if b = append(b, plain...); !found {
			return b, nil
		}
		c, size := unescapeOne(rest)
		if size == 0 {
			return nil, fmt.Errorf("%.40q: %w", text, errEscape)
		}
		b, text = append(b, c), rest[size:]
	}
}

// unescapeOne reads what follows a backslash; 0 bytes of it are read where that is no escape.
func unescapeOne(rest string) (c byte, size int) {
	if rest == "" {
		return 0, 0
	}
	switch rest[0] {
	case '\\':
		return '\\', 1
	case 'n':
		return '\n', 1
	case 'r':
		return '\r', 1
	case 't':
		return '\t', 1
	case 'x':
		if len(rest) >= 3 {
			if n, err := strconv.ParseUint(rest[1:3], 16, 8); err == nil {
				return byte(n), 3
			}
		}
	}
	return 0, 0
}
