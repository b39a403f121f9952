package client

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

const txnDescription = `The Txn comes from standard input, in etcdctl's form: compares, an empty line, the requests for when all of them hold, an empty
line, the requests for when one does not. The end of the input stands for what is missing; lines that begin with # are left out.

   mod("a") > "0"
   value("b") = "x"

   put a "new value"
   get b

   put a "first value"

Compares are of mod, create, version, value and lease, by =, !=, < and >. Requests are put, get and del with the options of these
commands. Strings in "..." have the escapes of Go, those in '...' none. A server with --api=netsy takes Txns that change one key in
each branch.`

func newTxn(c Config) *cli.Command {
	interactive := false
	return c.command(spec{
		name: "txn", usage: "do several things at once, or none of them", description: txnDescription, formats: noTable,
		flags: []cli.Flag{&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, HideDefault: true, Destination: &interactive,
			Usage: "ask for each part, also where standard input is no terminal"}},
		run: func(ctx context.Context, s *session) error {
			if _, err := s.args(0, 0); err != nil {
				return err
			}
			var prompt func(string)
			if interactive || terminal.Is(s.in) {
				prompt = func(text string) { fmt.Fprintln(s.errs, text) }
			}
			in, stop := terminal.Interruptible(ctx, s.in)
			defer stop()
			r, err := parseTxn(in, prompt)
			if err != nil {
				return err
			}
			answer, err := s.txn(ctx, r)
			if err != nil {
				return err
			}
			return s.printTxn(r, answer)
		},
	})
}

// txnJSON is the answer to a Txn in JSON.
type txnJSON struct {
	Header    *header      `json:"header,omitempty"`
	Succeeded bool         `json:"succeeded"`
	Responses []answerJSON `json:"responses,omitempty"`
}

// answerJSON is the answer to one of its requests.
type answerJSON struct {
	Range  *rangeJSON  `json:"response_range,omitempty"`
	Put    *putJSON    `json:"response_put,omitempty"`
	Delete *deleteJSON `json:"response_delete_range,omitempty"`
}

func (s *session) printTxn(r *pb.TxnRequest, answer *pb.TxnResponse) error {
	if s.format == formatJSON {
		return s.writeJSON(txnJSONOf(r, answer))
	}
	if answer.GetSucceeded() {
		s.println(s.paint(terminal.Green, "SUCCESS"))
	} else {
		s.println(s.paint(terminal.Yellow, "FAILURE"))
	}
	for i, a := range answer.GetResponses() {
		fmt.Fprintln(s.out)
		if err := s.printAnswer(requestOf(r, answer, i), a); err != nil {
			return err
		}
	}
	return nil
}

// requestOf is the request that an answer of a Txn belongs to.
func requestOf(r *pb.TxnRequest, answer *pb.TxnResponse, i int) *pb.RequestOp {
	ops := r.Failure
	if answer.GetSucceeded() {
		ops = r.Success
	}
	if i < len(ops) {
		return ops[i]
	}
	return nil
}

func (s *session) printAnswer(op *pb.RequestOp, a *pb.ResponseOp) error {
	switch v := a.GetResponse().(type) {
	case *pb.ResponseOp_ResponseRange:
		asked := op.GetRequestRange()
		return s.printRange(v.ResponseRange, &rangeOptions{keysOnly: asked.GetKeysOnly(), countOnly: asked.GetCountOnly()})
	case *pb.ResponseOp_ResponsePut:
		return s.printPut(nil, v.ResponsePut)
	case *pb.ResponseOp_ResponseDeleteRange:
		return s.printDelete(nil, v.ResponseDeleteRange)
	}
	return nil
}

func txnJSONOf(r *pb.TxnRequest, answer *pb.TxnResponse) txnJSON {
	all := txnJSON{Header: headerOf(answer.GetHeader()), Succeeded: answer.GetSucceeded()}
	for i, a := range answer.GetResponses() {
		var one answerJSON
		switch v := a.GetResponse().(type) {
		case *pb.ResponseOp_ResponseRange:
			one.Range = rangeJSONOf(v.ResponseRange, requestOf(r, answer, i).GetRequestRange().GetKeysOnly())
		case *pb.ResponseOp_ResponsePut:
			one.Put = &putJSON{headerOf(v.ResponsePut.GetHeader()), keyValueOf(v.ResponsePut.GetPrevKv())}
		case *pb.ResponseOp_ResponseDeleteRange:
			d := v.ResponseDeleteRange
			one.Delete = deleteJSONOf(d.GetHeader(), d.GetDeleted(), d.GetPrevKvs())
		}
		all.Responses = append(all.Responses, one)
	}
	return all
}
