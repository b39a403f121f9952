package client

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// word is a word of a line. A quoted one is never an option.
type word struct {
	text   string
	quoted bool
}

var errQuote = errors.New("a quotation mark has no partner")

// words splits a line at white space. "..." is a string with Go's escapes, '...' one without any.
func words(line string) ([]word, error) {
	var all []word
	for {
		line = strings.TrimLeftFunc(line, unicode.IsSpace)
		if line == "" {
			return all, nil
		}
		w, rest, err := nextWord(line)
		if err != nil {
			return nil, err
		}
		if rest != "" && !unicode.IsSpace(firstRune(rest)) {
			return nil, fmt.Errorf("no white space after %.40q", w.text)
		}
		all, line = append(all, w), rest
	}
}

// firstRune is the first character of a text that is not empty.
func firstRune(text string) rune {
	for _, r := range text {
		return r
	}
	return 0
}

// nextWord takes the word with which a line begins.
func nextWord(line string) (w word, rest string, err error) {
	switch line[0] {
	case '"':
		text, rest, err := quotedString(line)
		return word{text, true}, rest, err
	case '\'':
		text, rest, found := strings.Cut(line[1:], "'")
		if !found {
			return word{}, "", errQuote
		}
		return word{text, true}, rest, nil
	}
	end := strings.IndexFunc(line, unicode.IsSpace)
	if end < 0 {
		end = len(line)
	}
	return word{text: line[:end]}, line[end:], nil
}

// quotedString takes a string in double quotation marks off the beginning of a text.
func quotedString(text string) (value, rest string, err error) {
	prefix, err := strconv.QuotedPrefix(text)
	if err != nil || prefix[0] != '"' {
		return "", "", errQuote
	}
	value, err = strconv.Unquote(prefix)
	return value, text[len(prefix):], err
}
