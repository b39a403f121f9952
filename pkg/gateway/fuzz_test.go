package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// FuzzParse takes JSON apart as encoding/json does.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"key":"a","\u006bey":1,"value":null}`, ` { "success" : [ {"a":[1,2,{"b":"}"}]} , 2 ] , "x" : "\"" } `,
		`{"ID":1e5,"TTL":"[","prevKv":true}`, `[]`, `[1,[2],"]"]`, `"x"`, `{"key":{"key":{"key":{}}}}`, `null`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !json.Valid(raw) {
			return
		}
		var fields map[string]json.RawMessage
		err := json.Unmarshal(raw, &fields)
		o, ok := parseObject(raw)
		if ok != (err == nil && fields != nil) {
			t.Fatalf("object %v, encoding/json says %v", ok, err)
		}
		for _, field := range o {
			if !json.Valid(field.value) || !slices.Contains(fieldNames, field.name) {
				t.Fatalf("field %s is %q", field.name, field.value)
			}
		}
		for name, value := range fields {
			if known := knownNames[name]; known != "" && camelCase(known) == known && !sameJSON(o.get(known), value) {
				t.Fatalf("%s is %q, encoding/json says %q", name, o.get(known), value)
			}
		}
		var list []json.RawMessage
		err = json.Unmarshal(raw, &list)
		n := 0
		isList, _ := eachElement(raw, func(element []byte) error {
			if n < len(list) && !sameJSON(element, list[n]) {
				t.Fatalf("element %d is %q, encoding/json says %q", n, element, list[n])
			}
			n++
			return nil
		})
		if isList != (err == nil && list != nil) || n != len(list) {
			t.Fatalf("%d elements, encoding/json says %d, %v", n, len(list), err)
		}
	})
}

func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	if a != nil && json.Unmarshal(a, &x) != nil || b != nil && json.Unmarshal(b, &y) != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}

// FuzzTxn: whatever comes in is refused, or is a Txn within its limits that survives its way to another node.
func FuzzTxn(f *testing.F) {
	cases, err := os.ReadFile("testdata/antietcd-cases.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(cases)) {
		var c recorded
		if json.Unmarshal([]byte(line), &c) == nil {
			f.Add([]byte(c.Body))
		}
	}
	f.Add([]byte(`{"success":[{"request_txn":{"compare":[{"target":"VALUE"}],"failure":[{"requestPut":{"key":"YQ","lease":"00000000000000ff"}}]}}]}`))
	limits := Config{MaxRequestBytes: 10000}.limits()
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := decodeBody(body)
		if err != nil {
			return
		}
		d := txnDecoder{maxOps: limits.MaxTxnOps}
		r, err := d.txn(o, maxNested)
		if err != nil {
			checkError(t, err)
			return
		}
		if d.ops > limits.MaxTxnOps || d.wide > maxWide {
			t.Fatalf("%d operations, %d of ranges", d.ops, d.wide)
		}
		if err := limits.CheckTxn(r); err != nil {
			checkError(t, err)
			return
		}
		b, err := proto.Marshal(idlePuts(r))
		if err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(b, &pb.TxnRequest{}); err != nil {
			t.Fatal(err)
		}
	})
}

// checkError wants an error that blames the client.
func checkError(t *testing.T, err error) {
	if e := toError(err); e.Code != 400 && e.Code != 501 || e.Message == "" || strings.ContainsAny(e.Message, "\n\r") {
		t.Fatalf("%d %q", e.Code, e.Message)
	}
}

// FuzzCalls has no call panic.
func FuzzCalls(f *testing.F) {
	h := start(f)
	var names []string
	for name := range h.calls {
		names = append(names, name)
	}
	slices.Sort(names)
	for i := range names {
		for _, body := range []string{
			`{"key":"YQ==","value":"MQ==","lease":"00000000000000ff","prev_kv":true}`, `{"ID":"00000000000000ff","TTL":"100"}`,
			`{"key":"Lw==","range_end":"MA==","limit":1,"sort_target":"VALUE","sort_order":"ASCEND","min_mod_revision":1}`,
			`{"compare":[{"key":"YQ==","target":"VALUE","range_end":"Yg=="}],"success":[{"request_delete_range":{"key":"YQ==","prev_kv":true}}],"failure":[{"request_put":{"key":"YQ==","prev_kv":1}}]}`,
		} {
			f.Add(uint8(i), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, call uint8, body []byte) {
		answer, err := h.API(t.Context(), names[int(call)%len(names)], body)
		if err == nil {
			if !json.Valid(answer) {
				t.Fatalf("answer %q", answer)
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || e.Code == 500 {
			t.Fatalf("%v", err)
		}
	})
}

// FuzzMessage decodes what a WebSocket client sends.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"create_request":{"key":"YQ==","range_end":"AA==","start_revision":-1,"watch_id":5.0,"filters":["NOPUT",1]}}`))
	f.Add([]byte(`{"cancel_request":{"watch_id":"\ud800"}}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		if !json.Valid(message) {
			return
		}
		o, _ := parseObject(message)
		for _, name := range []string{"create_request", "cancel_request"} {
			r, ok, _ := o.objectField(name)
			if !ok {
				continue
			}
			if _, err := watchRequest(r); err != nil {
				checkError(t, err)
			}
			if id, err := watchName(r.get("watch_id")); err == nil && len(id) > clipLength {
				t.Fatalf("id %q", id)
			}
		}
	})
}
