package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// decodeBody returns the fields of a body that is one JSON object. An empty body is
// an empty object, as in AntiEtcd.
func decodeBody(body []byte) (object, error) {
	if len(body) == 0 {
		return nil, nil
	}
	if !json.Valid(body) {
		return nil, errNotJSON
	}
	o, ok := parseObject(body)
	if !ok {
		return nil, errNotObject
	}
	return o, nil
}

func badField(name, want string) error {
	return errorf(http.StatusBadRequest, "%s should be %s", name, want)
}

// text returns a field that must be a string; absent it is "".
func (o object) text(name string) (string, error) {
	raw := o.get(name)
	switch {
	case raw == nil:
		return "", nil
	case raw[0] != '"':
		return "", badField(name, "a string")
	case bytes.IndexByte(raw, '\\') < 0: // no need to look at each byte
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", badField(name, "a string")
	}
	return s, nil
}

// bytes returns a field in base64, of the usual or of the URL alphabet, padded or
// not; absent it is nil.
func (o object) bytes(name string) ([]byte, error) {
	s, err := o.text(name)
	if err != nil || len(s) == 0 {
		return nil, err
	}
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		encoding = base64.RawURLEncoding
	}
	b, err := encoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil, badField(name, "base64")
	}
	return b, nil
}

// int64 returns a field that is a whole number, or a string of one; absent it is 0.
func (o object) int64(name string) (int64, error) {
	raw := o.get(name)
	if raw == nil {
		return 0, nil
	}
	n, err := parseInt(raw)
	if err != nil {
		return 0, badField(name, "a whole number of 64 bits")
	}
	return n, nil
}

var errNotInt = errors.New("not a whole number")

// maxExact is the largest integer up to which every JSON reader keeps all.
const maxExact = 1<<53 - 1

func parseInt(raw []byte) (int64, error) {
	s := string(raw)
	if s[0] == '"' {
		if err := json.Unmarshal(raw, &s); err != nil {
			return 0, errNotInt
		}
		return strconv.ParseInt(s, 10, 64)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil {
		return n, nil
	}
	// JSON has 1e3 and 1.0 for whole numbers too.
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxExact {
		return 0, errNotInt
	}
	return int64(f), nil
}

// boolean returns a field that is true, false, 1 or 0; absent it is false.
func (o object) boolean(name string) (bool, error) {
	switch string(o.get(name)) {
	case "true", "1":
		return true, nil
	case "", "false", "0":
		return false, nil
	}
	return false, badField(name, "true or false")
}

// enum returns a field that is the name or the number of a protobuf enum's value.
// Absent it is 0, and known is false for what the enum has not.
func (o object) enum(name string, values map[string]int32) (value int32, given string, known bool) {
	raw := o.get(name)
	if raw == nil {
		return 0, "", true
	}
	if err := json.Unmarshal(raw, &given); err == nil {
		value, known = values[given]
		return value, given, known
	}
	given = string(raw)
	n, err := parseInt(raw)
	if err != nil {
		return 0, given, false
	}
	for _, v := range values {
		if int64(v) == n {
			return v, given, true
		}
	}
	return 0, given, false
}

// objectField returns a field that is an object; ok is false if it is absent.
func (o object) objectField(name string) (value object, ok bool, err error) {
	raw := o.get(name)
	if raw == nil {
		return nil, false, nil
	}
	if value, ok = parseObject(raw); !ok {
		return nil, false, badField(name, "an object")
	}
	return value, true, nil
}

// leaseIDLength is that of an id in hexadecimal.
const leaseIDLength = 16

// leaseID returns a field that is the id of a lease: 16 hex digits, or a decimal
// number, or a string of one. Absent, empty and 0 are no lease. An id that cannot
// be one is an error of *badLease.
func (o object) leaseID(name string) (int64, error) {
	raw := o.get(name)
	if raw == nil {
		return 0, nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		n, err := parseInt(raw)
		if err != nil {
			return 0, &badLease{string(raw)}
		}
		return n, nil
	}
	if s == "" {
		return 0, nil
	}
	if len(s) == leaseIDLength {
		if n, err := strconv.ParseUint(s, 16, 64); err == nil {
			return int64(n), nil
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, &badLease{s}
	}
	return n, nil
}

// badLease is the id of a lease that cannot be.
type badLease struct{ text string }

// Error returns what a put under such a lease is told.
func (e *badLease) Error() string { return "unknown lease: " + clip(e.text) }

// clipLength is how much of a client's text an answer repeats, in bytes.
const clipLength = 64

func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
	if len(s) > clipLength {
		return strings.ToValidUTF8(s[:clipLength], "") + "..."
	}
	return s
}

// formatLease is the form of lease ids in answers.
func formatLease(id int64) string {
	var b [8]byte
	for i := range b {
		b[i] = byte(uint64(id) >> (56 - 8*i))
	}
	return hex.EncodeToString(b[:])
}

// everything is the range that stands for all keys in AntiEtcd, be their first byte
// a slash or not.
var everything = [2]string{"/", "0"}

// span returns key and range_end.
func (o object) span() (key, end []byte, err error) {
	if key, err = o.bytes("key"); err != nil {
		return nil, nil, err
	}
	if end, err = o.bytes("range_end"); err != nil {
		return nil, nil, err
	}
	if string(key) == everything[0] && string(end) == everything[1] {
		return []byte{0}, []byte{0}, nil
	}
	return key, end, nil
}

// decoder gathers the first error of a series of fields.
type decoder struct {
	object
	err error
}

func (d *decoder) int64(name string) int64 { return keep(d, name, object.int64) }

func (d *decoder) boolean(name string) bool { return keep(d, name, object.boolean) }

func (d *decoder) bytes(name string) []byte { return keep(d, name, object.bytes) }

func (d *decoder) leaseID(name string) int64 { return keep(d, name, object.leaseID) }

func (d *decoder) enum(name string, values map[string]int32) int32 {
	v, given, known := d.object.enum(name, values)
	if !known && d.err == nil {
		d.err = errorf(http.StatusBadRequest, "%s has no value %s", name, clip(given))
	}
	return v
}

func (d *decoder) span() (key, end []byte) {
	key, end, err := d.object.span()
	if d.err == nil {
		d.err = err
	}
	return key, end
}

func keep[T any](d *decoder, name string, read func(object, string) (T, error)) T {
	v, err := read(d.object, name)
	if d.err == nil {
		d.err = err
	}
	return v
}

func errorf(code int, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
