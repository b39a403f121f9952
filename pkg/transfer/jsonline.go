package transfer

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// line is one line of JSON: an object of strings, integers and booleans, none
// nested. It is read by hand because encoding/json replaces text that is not
// UTF-8, takes the last of repeated fields, and ignores case.
type line struct {
	rest   []byte
	fields map[string]value
}

// value is the value of one field.
type value struct {
	kind byte // of string 's', integer 'n', boolean 'b'
	text []byte
	num  int64
	yes  bool
}

// syntax is an error in a line; the reader adds the line's number.
func syntax(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, a...))
}

// parseLine reads a whole line.
func parseLine(b []byte) (map[string]value, error) {
	if !utf8.Valid(b) {
		return nil, syntax("the text is not UTF-8")
	}
	l := line{rest: b, fields: map[string]value{}}
	if !l.take('{') {
		return nil, syntax("no object begins here")
	}
	for !l.take('}') {
		if len(l.fields) > 0 && !l.take(',') {
			return nil, syntax("no comma between fields")
		}
		if err := l.field(); err != nil {
			return nil, err
		}
	}
	if l.space(); len(l.rest) > 0 {
		return nil, syntax("%d bytes follow the object", len(l.rest))
	}
	return l.fields, nil
}

func (l *line) space() { l.rest = bytes.TrimLeft(l.rest, " \t\r") }

// take takes one character, after white space.
func (l *line) take(c byte) bool {
	l.space()
	if len(l.rest) == 0 || l.rest[0] != c {
		return false
	}
	l.rest = l.rest[1:]
	return true
}

func (l *line) field() error {
	name, err := l.text()
	if err != nil {
		return err
	}
	if !l.take(':') {
		return syntax("no colon after a field's name")
	}
	if _, ok := l.fields[string(name)]; ok {
		return syntax("field %.40q is there twice", name)
	}
	v, err := l.value()
	if err != nil {
		return err
	}
	l.fields[string(name)] = v
	return nil
}

func (l *line) value() (value, error) {
	l.space()
	switch {
	case len(l.rest) > 0 && l.rest[0] == '"':
		text, err := l.text()
		return value{kind: 's', text: text}, err
	case bytes.HasPrefix(l.rest, []byte("true")):
		l.rest = l.rest[4:]
		return value{kind: 'b', yes: true}, nil
	case bytes.HasPrefix(l.rest, []byte("false")):
		l.rest = l.rest[5:]
		return value{kind: 'b'}, nil
	}
	n := 0
	for n < len(l.rest) && (l.rest[n] == '-' || '0' <= l.rest[n] && l.rest[n] <= '9') {
		n++
	}
	digits := string(l.rest[:n])
	num, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strconv.FormatInt(num, 10) != digits {
		return value{}, syntax("a value is no string, integer or boolean")
	}
	l.rest = l.rest[n:]
	return value{kind: 'n', num: num}, nil
}

// text reads a string. It may alias the line.
func (l *line) text() ([]byte, error) {
	if !l.take('"') {
		return nil, syntax("no string begins here")
	}
	i := bytes.IndexAny(l.rest, "\"\\")
	if i >= 0 && l.rest[i] == '"' { // nothing is escaped
		text := l.rest[:i:i]
		l.rest = l.rest[i+1:]
		return text, noControl(text)
	}
	var text []byte
	for i >= 0 {
		if err := noControl(l.rest[:i]); err != nil {
			return nil, err
		}
		text = append(text, l.rest[:i]...)
		end := l.rest[i] == '"'
		if l.rest = l.rest[i+1:]; end {
			return text, nil
		}
		var err error
		if text, err = l.escape(text); err != nil {
			return nil, err
		}
		i = bytes.IndexAny(l.rest, "\"\\")
	}
	return nil, syntax("a string does not end")
}

func noControl(text []byte) error {
	for _, c := range text {
		if c < ' ' {
			return syntax("a control character is not escaped")
		}
	}
	return nil
}

var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape appends what follows a backslash.
func (l *line) escape(text []byte) ([]byte, error) {
	if len(l.rest) == 0 {
		return nil, syntax("a string does not end")
	}
	c := l.rest[0]
	l.rest = l.rest[1:]
	if plain, ok := escapes[c]; ok {
		return append(text, plain), nil
	}
	r, ok := rune(0), false
	if c == 'u' {
		r, ok = l.hex4()
	}
	if ok && utf16.IsSurrogate(r) {
		if ok = bytes.HasPrefix(l.rest, []byte(`\u`)); ok {
			l.rest = l.rest[2:]
			var low rune
			low, ok = l.hex4()
			r = utf16.DecodeRune(r, low)
			ok = ok && r != utf8.RuneError
		}
	}
	if !ok {
		return nil, syntax("an escape in a string is no character")
	}
	return utf8.AppendRune(text, r), nil
}

func (l *line) hex4() (rune, bool) {
	if len(l.rest) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(l.rest[:4]), 16, 16)
	l.rest = l.rest[4:]
	return rune(n), err == nil
}

// fieldSet takes the fields of a line one by one; what is left in the end is
// unknown.
type fieldSet struct {
	fields map[string]value
	err    error
}

func (f *fieldSet) take(name string, kind byte) (value, bool) {
	v, ok := f.fields[name]
	if !ok {
		return value{}, false
	}
	delete(f.fields, name)
	if v.kind != kind {
		f.fail("field %q has a value of another type", name)
	}
	return v, true
}

func (f *fieldSet) fail(format string, a ...any) {
	if f.err == nil {
		f.err = syntax(format, a...)
	}
}

// integer gives a field that is from min up; 0 if it is absent.
func (f *fieldSet) integer(name string, min int64) int64 {
	v, ok := f.take(name, 'n')
	if ok && (v.num < min || v.num == math.MaxInt64) {
		f.fail("field %q is %d", name, v.num)
	}
	return v.num
}

func (f *fieldSet) boolean(name string) bool {
	v, _ := f.take(name, 'b')
	return v.yes
}

// bytes gives name as text or name_base64 decoded, of which one must be there.
// They do not alias the line.
func (f *fieldSet) bytes(name string) []byte {
	plain, ok := f.take(name, 's')
	encoded, ok64 := f.take(name+"_base64", 's')
	if ok == ok64 {
		f.fail("one of the fields %q and %q is needed", name, name+"_base64")
		return nil
	}
	if ok {
		return append([]byte{}, plain.text...)
	}
	b, err := base64.StdEncoding.Strict().AppendDecode([]byte{}, encoded.text)
	if err != nil || bytes.ContainsAny(encoded.text, "\r\n") {
		f.fail("field %q is no base64", name+"_base64")
	}
	return b
}

// lease gives a lease id in 16 hexadecimal digits; 0 if it is absent.
func (f *fieldSet) lease() int64 {
	v, ok := f.take("lease", 's')
	if !ok {
		return 0
	}
	id, err := strconv.ParseUint(string(v.text), 16, 64)
	if err != nil || len(v.text) != 16 || id == 0 {
		f.fail("lease %.20q is not an id of 16 hexadecimal digits", v.text)
	}
	return int64(id)
}

// end fails if a field is left.
func (f *fieldSet) end() error {
	for name := range f.fields {
		f.fail("field %.40q is unknown or does not belong here", name)
	}
	return f.err
}

// appendText writes a field as text or, if it is not UTF-8, in base64.
func appendText(b []byte, name string, text []byte) []byte {
	if utf8.Valid(text) {
		return appendQuoted(append(appendName(b, name), '"'), text)
	}
	b = append(appendName(b, name+"_base64"), '"')
	b = base64.StdEncoding.AppendEncode(b, text)
	return append(b, '"')
}

// appendQuoted escapes valid UTF-8 and ends the string.
func appendQuoted(b, text []byte) []byte {
	const hex = "0123456789abcdef"
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// appendName begins a field: a comma unless it is the first, and the name.
func appendName(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(append(b, '"'), name...)
	return append(b, '"', ':')
}

func appendInteger(b []byte, name string, n int64) []byte {
	return strconv.AppendInt(appendName(b, name), n, 10)
}

func appendLeaseID(b []byte, id int64) []byte {
	return fmt.Appendf(appendName(b, "lease"), `"%016x"`, uint64(id))
}
