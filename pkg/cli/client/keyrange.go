package client

import (
	"slices"

	"github.com/urfave/cli/v3"
)

// everything as an end stands for all keys from the first on.
var everything = []byte{0}

// span is what says which keys are meant, beside the key itself.
type span struct {
	prefix, fromKey bool
	escaped         bool
}

func (o *span) flags(what string) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "prefix", HideDefault: true, Destination: &o.prefix, Usage: what + " the keys that begin with KEY; an empty one means all keys"},
		&cli.BoolFlag{Name: "from-key", HideDefault: true, Destination: &o.fromKey, Usage: what + " the keys from KEY on"},
		newEscapedFlag(&o.escaped),
	}
}

func newEscapedFlag(to *bool) cli.Flag {
	return &cli.BoolFlag{Name: "escaped", HideDefault: true, Destination: to, Usage: `arguments have the escapes of the output: \\, \n, \r, \t, \xHH`}
}

// literal reads an argument.
func literal(text string, escaped bool) ([]byte, error) {
	if !escaped {
		return []byte(text), nil
	}
	b, err := Unescape(text)
	if err != nil {
		return nil, Misuse(err)
	}
	return b, nil
}

// of gives the range that KEY [RANGE_END] and the flags name. A nil end is one key.
func (o span) of(args []string) (key, end []byte, err error) {
	if o.prefix && o.fromKey {
		return nil, nil, usagef("--prefix and --from-key exclude each other")
	}
	if (o.prefix || o.fromKey) && len(args) > 1 {
		return nil, nil, usagef("RANGE_END and --prefix or --from-key exclude each other")
	}
	if key, err = literal(args[0], o.escaped); err != nil {
		return nil, nil, err
	}
	switch {
	case o.prefix:
		key, end = prefixRange(key)
	case o.fromKey:
		if end = everything; len(key) == 0 {
			key = everything
		}
	case len(key) == 0:
		return nil, nil, usagef("the key is empty")
	case len(args) > 1:
		if end, err = literal(args[1], o.escaped); err == nil && len(end) == 0 {
			err = usagef("RANGE_END is empty")
		}
	}
	return key, end, err
}

// prefixRange gives the range of the keys that begin with a prefix.
func prefixRange(prefix []byte) (key, end []byte) {
	if len(prefix) == 0 {
		return everything, everything
	}
	end = slices.Clone(prefix)
	for len(end) > 0 && end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	if len(end) == 0 {
		return prefix, everything
	}
	end[len(end)-1]++
	return prefix, end
}
