package client

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// option is one option of a request in a Txn: the one that is not nil is set.
type option struct {
	flag *bool
	text *string
	num  *int64
}

var errOp = errors.New(`a request is put KEY VALUE, get KEY [RANGE_END] or del KEY [RANGE_END], with the options of the commands`)

// parseOp reads one request, with the options that the command of its name has.
func parseOp(line string) (*pb.RequestOp, error) {
	all, err := words(line)
	if err != nil {
		return nil, err
	}
	if all[0].quoted {
		return nil, errOp
	}
	switch all[0].text {
	case "put":
		return parsePutOp(all[1:])
	case "get":
		return parseGetOp(all[1:])
	case "del", "delete":
		return parseDeleteOp(all[1:])
	}
	return nil, errOp
}

func parsePutOp(all []word) (*pb.RequestOp, error) {
	var o putOptions
	args, err := options(all, map[string]option{
		"lease": {text: &o.lease}, "prev-kv": {flag: &o.prevKV}, "ignore-value": {flag: &o.ignoreValue}, "ignore-lease": {flag: &o.ignoreLease},
		"escaped": {flag: &o.escaped},
	})
	if err != nil {
		return nil, err
	}
	if len(args) < 1 || len(args) > 2 || len(args) == 1 && !o.ignoreValue {
		return nil, errOp
	}
	r, err := o.request(args, func() ([]byte, error) { return literal(args[1], o.escaped) })
	return putOp(r), err
}

func (o *span) options() map[string]option {
	return map[string]option{"prefix": {flag: &o.prefix}, "from-key": {flag: &o.fromKey}, "escaped": {flag: &o.escaped}}
}

func parseGetOp(all []word) (*pb.RequestOp, error) {
	var o rangeOptions
	known := o.span.options()
	known["rev"], known["revision"], known["limit"] = option{num: &o.revision}, option{num: &o.revision}, option{num: &o.limit}
	known["sort-by"], known["order"] = option{text: &o.sortBy}, option{text: &o.order}
	known["keys-only"], known["count-only"] = option{flag: &o.keysOnly}, option{flag: &o.countOnly}
	known["serializable"] = option{flag: &o.serializable}
	args, err := options(all, known)
	if err != nil {
		return nil, err
	}
	if len(args) < 1 || len(args) > 2 {
		return nil, errOp
	}
	r, err := o.request(args)
	return rangeOp(r), err
}

func parseDeleteOp(all []word) (*pb.RequestOp, error) {
	var o deleteOptions
	known := o.span.options()
	known["prev-kv"] = option{flag: &o.prevKV}
	args, err := options(all, known)
	if err != nil {
		return nil, err
	}
	if len(args) < 1 || len(args) > 2 {
		return nil, errOp
	}
	key, end, err := o.of(args)
	return deleteOp(&pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: o.prevKV}), err
}

// options takes the options out of the words, and returns the others. After -- there are none.
func options(all []word, known map[string]option) (args []string, err error) {
	for i := 0; i < len(all); i++ {
		w := all[i]
		if w.quoted || !strings.HasPrefix(w.text, "--") {
			args = append(args, w.text)
			continue
		}
		if w.text == "--" {
			for _, rest := range all[i+1:] {
				args = append(args, rest.text)
			}
			return args, nil
		}
		name, value, given := strings.Cut(w.text[2:], "=")
		o, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("there is no option --%.40s here", name)
		}
		if o.flag == nil && !given {
			if i++; i == len(all) {
				return nil, fmt.Errorf("--%s has no value", name)
			}
			value = all[i].text
		}
		if err := o.set(name, value); err != nil {
			return nil, err
		}
	}
	return args, nil
}

func (o option) set(name, value string) (err error) {
	switch {
	case o.flag != nil && value == "":
		*o.flag = true
	case o.flag != nil:
		*o.flag, err = strconv.ParseBool(value)
	case o.text != nil:
		*o.text = value
	default:
		*o.num, err = strconv.ParseInt(value, 10, 64)
	}
	if err != nil {
		return fmt.Errorf("--%s has the value %.40q", name, value)
	}
	return nil
}
