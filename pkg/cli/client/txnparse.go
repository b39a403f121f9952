package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// maxTxnLine bounds a line of a Txn, in bytes.
const maxTxnLine = 16 << 20

// The parts of a Txn, as they are asked for.
var txnPrompts = [...]string{"compares:", "success requests (get, put, del):", "failure requests (get, put, del):"}

// parseTxn reads a Txn: compares, success requests and failure requests, one a line, each part ended by an empty line or by the
// end of the input. Lines that begin with # are left out. prompt is called before each part; nil asks nobody, and then nothing may
// follow the last part. Errors name the line.
func parseTxn(in io.Reader, prompt func(text string)) (*pb.TxnRequest, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxTxnLine)
	r := &pb.TxnRequest{}
	number := 0
	for part, text := range txnPrompts {
		if prompt != nil {
			prompt(text)
		}
		for lines.Scan() {
			number++
			line := strings.TrimSpace(lines.Text())
			if line == "" {
				break
			}
			if strings.HasPrefix(line, "#") {
				continue
			}
			if err := addToTxn(r, part, line); err != nil {
				return nil, Misuse(fmt.Errorf("line %d: %w", number, err))
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read txn: %w", err)
		}
	}
	for prompt == nil && lines.Scan() {
		if number++; !strings.HasPrefix(strings.TrimSpace(lines.Text())+"#", "#") {
			return nil, usagef("line %d: there is something after the failure requests", number)
		}
	}
	return r, lines.Err()
}

func addToTxn(r *pb.TxnRequest, part int, line string) error {
	if part == 0 {
		c, err := parseCompare(line)
		r.Compare = append(r.Compare, c)
		return err
	}
	op, err := parseOp(line)
	if part == 1 {
		r.Success = append(r.Success, op)
	} else {
		r.Failure = append(r.Failure, op)
	}
	return err
}

var compareResults = map[string]pb.Compare_CompareResult{
	"=": pb.Compare_EQUAL, "==": pb.Compare_EQUAL, "!=": pb.Compare_NOT_EQUAL, "<": pb.Compare_LESS, ">": pb.Compare_GREATER,
}

var errCompare = errors.New(`a compare is TARGET("KEY") =|!=|<|> "VALUE", TARGET being mod, create, version, value or lease`)

// parseCompare reads one compare. The value may stand without quotation marks.
func parseCompare(line string) (*pb.Compare, error) {
	target, rest, found := strings.Cut(line, "(")
	if !found {
		return nil, errCompare
	}
	key, rest, err := quotedString(strings.TrimSpace(rest))
	if err != nil {
		return nil, errCompare
	}
	rest, found = strings.CutPrefix(strings.TrimSpace(rest), ")")
	rest = strings.TrimSpace(rest)
	sign := len(rest) - len(strings.TrimLeft(rest, "=!<>"))
	result, known := compareResults[rest[:sign]]
	value, err := words(rest[sign:])
	if !found || !known || err != nil || len(value) != 1 {
		return nil, errCompare
	}
	if key == "" {
		return nil, errors.New("the key is empty")
	}
	c := &pb.Compare{Key: []byte(key), Result: result}
	return c, setOperand(c, strings.TrimSpace(target), value[0].text)
}

// setOperand fills in what is compared, and with what.
func setOperand(c *pb.Compare, target, text string) error {
	switch target {
	case "val", "value":
		c.Target, c.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: []byte(text)}
		return nil
	case "lease":
		id, err := strconv.ParseUint(text, 16, 64)
		if err != nil {
			return fmt.Errorf("%.40q is not the id of a lease: up to 16 hexadecimal digits", text)
		}
		c.Target, c.TargetUnion = pb.Compare_LEASE, &pb.Compare_Lease{Lease: int64(id)}
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch target {
	case "ver", "version":
		c.Target, c.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: n}
	case "c", "create":
		c.Target, c.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: n}
	case "m", "mod":
		c.Target, c.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: n}
	default:
		return errCompare
	}
	if err != nil {
		return fmt.Errorf("%.40q is not a number", text)
	}
	return nil
}
