package gateway

import (
	"encoding/json"
	"slices"
	"strings"
)

// The functions below take JSON apart that json.Valid has approved. So they cost
// one pass over the text for each level of it, whatever a client sends, and hold
// nothing but the fields that the API knows.

// object is a JSON object as far as its names are known, in snake_case. Values are
// JSON; null is as if it were absent, and of two fields of one name the last holds.
type object []field

type field struct {
	name  string
	value []byte
}

// get returns a field's JSON, nil if it is absent.
func (o object) get(name string) []byte {
	for i := range o {
		if o[i].name == name {
			return o[i].value
		}
	}
	return nil
}

// fieldNames are all names that requests may have. knownNames finds them in both
// spellings.
var (
	fieldNames = []string{
		"key", "value", "range_end", "lease", "prev_kv", "ignore_value", "ignore_lease",
		"limit", "revision", "sort_order", "sort_target", "serializable", "keys_only", "count_only",
		"min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision",
		"compare", "success", "failure", "request_put", "request_range", "request_delete_range", "request_txn",
		"target", "result", "mod_revision", "create_revision", "version",
		"ID", "TTL", "leaderonly", "nowaitquorum",
		"create_request", "cancel_request", "progress_request",
		"start_revision", "progress_notify", "filters", "fragment", "watch_id",
		"keys", "physical",
	}
	knownNames = func() map[string]string {
		m := make(map[string]string)
		for _, name := range fieldNames {
			m[name], m[camelCase(name)] = name, name
		}
		return m
	}()
)

func camelCase(name string) string {
	var b strings.Builder
	for i, part := range strings.Split(name, "_") {
		if i > 0 && part != "" {
			part = strings.ToUpper(part[:1]) + part[1:]
		}
		b.WriteString(part)
	}
	return b.String()
}

// parseObject takes an object apart. It reports false if raw is none.
func parseObject(raw []byte) (object, bool) {
	i := skipSpace(raw, 0)
	if i >= len(raw) || raw[i] != '{' {
		return nil, false
	}
	var o object
	for i = skipSpace(raw, i+1); raw[i] != '}'; {
		end := skipValue(raw, i)
		name := knownNames[fieldName(raw[i:end])]
		i = skipSpace(raw, skipSpace(raw, end)+1) // past the colon
		end = skipValue(raw, i)
		if name != "" {
			o = o.with(name, raw[i:end])
		}
		i = skipSpace(raw, end)
		if raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return o, true
}

// with returns o with a field set.
func (o object) with(name string, value []byte) object {
	o = slices.DeleteFunc(o, func(f field) bool { return f.name == name })
	if string(value) == "null" {
		return o
	}
	return append(o, field{name, value})
}

// fieldName is what the JSON string of a name says.
func fieldName(raw []byte) string {
	for _, c := range raw {
		if c == '\\' {
			var name string
			_ = json.Unmarshal(raw, &name) // it is valid
			return name
		}
	}
	return string(raw[1 : len(raw)-1])
}

// eachElement calls fn with the JSON of each element of an array until fn fails. It
// reports false if raw is none.
func eachElement(raw []byte, fn func(raw []byte) error) (bool, error) {
	i := skipSpace(raw, 0)
	if i >= len(raw) || raw[i] != '[' {
		return false, nil
	}
	for i = skipSpace(raw, i+1); raw[i] != ']'; {
		end := skipValue(raw, i)
		if err := fn(raw[i:end]); err != nil {
			return true, err
		}
		i = skipSpace(raw, end)
		if raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return true, nil
}

func skipSpace(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\n' || raw[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns where the value ends that begins at i.
func skipValue(raw []byte, i int) int {
	depth := 0
	for i < len(raw) {
		switch c := raw[i]; {
		case c == '"':
			i = skipString(raw, i)
		case c == '{' || c == '[':
			depth++
			i++
		case c == '}' || c == ']':
			depth--
			i++
		case depth > 0: // a literal, or what is between values
			i++
			continue
		default:
			i = skipLiteral(raw, i)
		}
		if depth == 0 {
			return i
		}
	}
	return i
}

func skipString(raw []byte, i int) int {
	for i++; i < len(raw) && raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(raw))
}

func skipLiteral(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		switch raw[i] {
		case ',', ':', '}', ']', ' ', '\t', '\n', '\r':
			return i
		}
	}
	return i
}
