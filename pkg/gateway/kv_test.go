package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestPutAndRange(t *testing.T) {
	h := start(t)
	first := h.expect("/v3/kv/put", `{"key":"‹/a/1›","value":"‹one›"}`, `{"header":{}}`)
	h.expect("/v3/kv/put/", `{"key":"‹/a/2›","value":"‹›"}`, `{"header":{}}`)
	if got := h.expect("/v3/kv/put", `{"key":"‹plain›","value":"‹p›"}`, `{"header":{}}`); got != first+2 {
		t.Errorf("revision %d after %d", got, first)
	}
	one := `{"key":"‹/a/1›","value":"‹one›","mod_revision":"*"}`
	two := `{"key":"‹/a/2›","value":"","mod_revision":"*"}`
	for body, want := range map[string]string{
		`{"key":"‹/a/1›"}`:                                                 `{"header":{},"kvs":[` + one + `]}`,
		`{"key":"` + strings.TrimRight(b64("/a/1"), "=") + `"}`:            `{"header":{},"kvs":[` + one + `]}`,
		`{"key":"‹/a/›","range_end":"‹/a0›"}`:                              `{"header":{},"kvs":[` + one + `,` + two + `]}`,
		`{"key":"‹/a/›","rangeEnd":"‹/a0›","keysOnly":true}`:               `{"header":{},"kvs":[{"key":"‹/a/1›"},{"key":"‹/a/2›"}]}`,
		`{"key":"‹/›","range_end":"‹0›","keys_only":1}`:                    `{"header":{},"kvs":[{"key":"‹/a/1›"},{"key":"‹/a/2›"},{"key":"‹plain›"}]}`,
		`{"key":"‹/a/1›","range_end":"‹/a/2›"}`:                            `{"header":{},"kvs":[` + one + `]}`,
		`{"key":"‹/a/›","range_end":"‹/a0›","limit":"1"}`:                  `{"header":{},"kvs":[` + one + `],"count":2,"more":true}`,
		`{"key":"‹/a/›","range_end":"‹/a0›","count_only":true}`:            `{"header":{},"kvs":[],"count":2}`,
		`{"key":"‹/a/›","range_end":"‹/a0›","sort_order":"DESCEND"}`:       `{"header":{},"kvs":[` + two + `,` + one + `]}`,
		`{"key":"‹/a/›","range_end":"‹/a0›","sortOrder":2,"sortTarget":4}`: `{"header":{},"kvs":[` + one + `,` + two + `]}`,
		`{"key":"‹/a/›","range_end":"‹/a0›","max_mod_revision":2}`:         `{"header":{},"kvs":[` + one + `]}`,
		`{"key":"‹/a/2›","revision":2}`:                                    `{"header":{},"kvs":[]}`,
		`{"key":"‹/a/1›","nobody":{"knows":[1]},"serializable":true}`:      `{"header":{},"kvs":[` + one + `]}`,
	} {
		h.expect("/v3/kv/range", body, want)
	}
}

func TestPutThatChangesNothing(t *testing.T) {
	h := start(t)
	put := `{"key":"‹a›","value":"‹1›"}`
	first := h.expect("/v3/kv/put", put, `{"header":{}}`)
	if again := h.expect("/v3/kv/put", put, `{"header":{}}`); again != first {
		t.Errorf("revision %d, then %d for the same value", first, again)
	}
	h.expect("/v3/kv/put", `{"key":"‹a›","value":"‹1›","prev_kv":true}`, `{"header":{},"prev_kv":{"key":"‹a›","value":"‹1›","mod_revision":"*"}}`)
	h.expect("/v3/lease/grant", `{"ID":"000000000000000a","TTL":100}`, `{"header":{},"ID":"000000000000000a","TTL":100}`)
	leased := `{"key":"‹a›","value":"‹1›","lease":"000000000000000a"}`
	if got := h.expect("/v3/kv/put", leased, `{"header":{}}`); got != first+1 {
		t.Errorf("a put under a lease made revision %d", got)
	}
	if got := h.expect("/v3/kv/put", leased, `{"header":{}}`); got != first+1 {
		t.Errorf("the same lease made revision %d", got)
	}
	mixed := `{"success":[{"requestPut":{"key":"‹a›","value":"‹1›","lease":10}},{"request_put":{"key":"‹b›","value":"‹2›"}}]}`
	want := `{"header":{},"succeeded":true,"responses":[{"response_put":{}},{"response_put":{}}]}`
	if got := h.expect("/v3/kv/txn", mixed, want); got != first+2 {
		t.Errorf("one put that changes made revision %d", got)
	}
	if got := h.expect("/v3/kv/txn", mixed, want); got != first+2 {
		t.Errorf("none that changes made revision %d", got)
	}
	h.expect("/v3/kv/put", `{"key":"‹a›","ignore_value":true}`, `{"header":{}}`)
	h.expect("/v3/kv/range", `{"key":"‹a›"}`, `{"header":{},"kvs":[{"key":"‹a›","value":"‹1›","mod_revision":"*"}]}`)
}

// TestTxnIsOneRevision: all of its changes, or none.
func TestTxnIsOneRevision(t *testing.T) {
	h := start(t)
	before := h.store.Revision()
	var ops []string
	for i := range 200 {
		ops = append(ops, fmt.Sprintf(`{"request_put":{"key":"‹k%03d›","value":"‹v›"}}`, i))
	}
	code, answer := h.post("/v3/kv/txn", `{"success":[`+strings.Join(ops, ",")+`]}`)
	if code != http.StatusOK || h.store.Revision() != before+1 || strings.Count(answer, "response_put") != 200 {
		t.Fatalf("%d %s, revision %d after %d", code, answer, h.store.Revision(), before)
	}
	h.refuse("/v3/kv/txn", `{"success":[{"request_put":{"key":"‹x›","value":"‹1›"}},{"request_put":{"key":"‹y›","value":"‹1›","lease":"00000000000000ff"}}]}`,
		400, "unknown lease: 00000000000000ff")
	h.expect("/v3/kv/range", `{"key":"‹x›"}`, `{"header":{},"kvs":[]}`)
	h.refuse("/v3/kv/txn", `{"success":[{"request_put":{"key":"‹x›","value":"‹1›"}},{"request_put":{"key":"‹x›","value":"‹2›"}}]}`,
		400, "etcdserver: duplicate key given in txn request")
	if h.store.Revision() != before+1 {
		t.Error("a txn that was refused made a revision")
	}
	h.expect("/v3/kv/txn", `{"compare":[{"key":"‹k000›","target":"VERSION","version":1}],
		"success":[{"request_delete_range":{"key":"‹k000›","range_end":"‹k100›","prev_kv":false}},
			{"request_txn":{"success":[{"request_put":{"key":"‹n›","value":"‹1›","prev_kv":true}},{"request_range":{"key":"‹n›","keys_only":true}}]}}]}`,
		`{"header":{},"succeeded":true,"responses":[{"response_delete_range":{"deleted":100}},
			{"response_txn":{"succeeded":true,"responses":[{"response_put":{}},{"response_range":{"kvs":[{"key":"‹n›"}]}}]}}]}`)
}

func TestCompares(t *testing.T) {
	h := start(t)
	h.expect("/v3/lease/grant", `{"ID":"00000000000000ab","TTL":"100"}`, `{"header":{},"ID":"00000000000000ab","TTL":"100"}`)
	created := h.expect("/v3/kv/put", `{"key":"‹a›","value":"‹1›"}`, `{"header":{}}`)
	modified := h.expect("/v3/kv/put", `{"key":"‹a›","value":"‹2›","lease":"00000000000000ab"}`, `{"header":{}}`)
	for _, tt := range []struct {
		compare string
		want    bool
	}{
		{`"target":"MOD","mod_revision":%[2]d`, true},
		{`"target":"MOD","modRevision":"%[2]d"`, true},
		{`"target":"MOD","mod_revision":%[1]d`, false},
		{`"target":"MOD"`, false},
		{`"target":2,"mod_revision":%[2]d,"result":0`, true},
		{`"target":"MOD","mod_revision":%[1]d,"result":"GREATER"`, true},
		{`"target":"MOD","mod_revision":%[1]d,"result":"NOT_EQUAL"`, true},
		{`"target":"MOD","mod_revision":1e3,"result":"LESS"`, true},
		{`"target":"CREATE","create_revision":%[1]d`, true},
		{`"target":"VERSION","version":2`, true},
		{`"version":"2"`, true},
		{`"target":"LEASE","lease":"00000000000000ab"`, true},
		{`"target":"LEASE","lease":171`, true},
		{`"target":"LEASE"`, false},
		{`"target":"VALUE","value":"‹2›"`, true},
		{`"target":"VALUE","value":"‹3›","result":"LESS"`, true},
		{`"target":"VALUE"`, false},
		{`"target":"VALUE","key":"‹absent›"`, true},
		{`"target":"VALUE","key":"‹absent›","value":""`, false},
		{`"target":"MOD","key":"‹absent›"`, true},
	} {
		compare := tt.compare
		if strings.Contains(compare, "%") {
			compare = strings.NewReplacer("%[1]d", fmt.Sprint(created), "%[2]d", fmt.Sprint(modified)).Replace(compare)
		}
		if !strings.Contains(compare, `"key"`) {
			compare += `,"key":"‹a›"`
		}
		h.expect("/v3/kv/txn", `{"compare":[{`+compare+`}]}`, fmt.Sprintf(`{"header":{},"succeeded":%v,"responses":[]}`, tt.want))
	}
	h.refuse("/v3/kv/txn", `{"compare":[{"key":"‹a›","target":"FOO"}]}`, 501, "Unsupported comparison target: FOO")
	h.refuse("/v3/kv/txn", `{"compare":[{"key":"‹a›","mod_revision":1}]}`, 501, "Unsupported comparison target: undefined")
	h.refuse("/v3/kv/txn", `{"compare":[{"key":"‹a›","target":"MOD","result":"ODD"}]}`, 501, "Unsupported comparison result: ODD")
}

// bigRevision is a number that no float64 holds.
const bigRevision = int64(1)<<53 + 1

func TestLargeIntegers(t *testing.T) {
	if got := string(appendInt(nil, maxExact)); got != "9007199254740991" {
		t.Errorf("the largest number that is kept: %s", got)
	}
	if got := string(appendInt(nil, bigRevision)); got != `"9007199254740993"` {
		t.Errorf("one that is not: %s", got)
	}
	for _, raw := range []string{`9007199254740993`, `"9007199254740993"`} {
		if n, err := parseInt([]byte(raw)); n != bigRevision || err != nil {
			t.Errorf("%s is read as %d, %v", raw, n, err)
		}
	}
	for _, raw := range []string{`9007199254740993.0`, `1e30`, `1.5`, `"x"`, `""`, `true`, `9223372036854775808`, `{}`} {
		if n, err := parseInt([]byte(raw)); err == nil {
			t.Errorf("%s is read as %d", raw, n)
		}
	}
	h := start(t)
	h.expect("/v3/kv/put", `{"key":"‹a›","value":"‹1›"}`, `{"header":{}}`)
	h.expect("/v3/kv/txn", `{"compare":[{"key":"‹a›","target":"MOD","mod_revision":9007199254740993,"result":"LESS"}]}`,
		`{"header":{},"succeeded":true,"responses":[]}`)
	h.refuse("/v3/kv/range", `{"key":"‹a›","revision":"9007199254740993"}`, 400, "etcdserver: mvcc: required revision is a future revision")
}

func TestBadRequests(t *testing.T) {
	h := start(t, func(c *Config) { c.MaxRequestBytes = 20000 })
	ranges := strings.Repeat(`{"request_range":{"key":"‹a›","range_end":"‹b›"}},`, maxWide+1)
	many := strings.Repeat(`{"request_range":{"key":"‹a›"}},`, h.limits.MaxTxnOps+1)
	nested := strings.Repeat(`{"success":[{"request_txn":`, maxNested+1) + `{}` + strings.Repeat(`}]}`, maxNested+1)
	for _, tt := range []struct {
		path, body string
		code       int
		text       string
	}{
		{"/v3/kv/range", `{"key":"%%%"}`, 400, "key should be base64"},
		{"/v3/kv/range", `{"key":1}`, 400, "key should be a string"},
		{"/v3/kv/range", `{}`, 400, "etcdserver: key is not provided"},
		{"/v3/kv/range", `{"key":"‹a›","limit":"x"}`, 400, "limit should be a whole number of 64 bits"},
		{"/v3/kv/range", `{"key":"‹a›","keys_only":"yes"}`, 400, "keys_only should be true or false"},
		{"/v3/kv/range", `{"key":"‹a›","sort_order":"SIDEWAYS"}`, 400, "sort_order has no value SIDEWAYS"},
		{"/v3/kv/put", `{"value":"‹a›"}`, 400, "etcdserver: key is not provided"},
		{"/v3/kv/put", `{"key":"‹a›","lease":"no\nlease"}`, 400, "unknown lease: no lease"},
		{"/v3/kv/put", `{"key":"‹a›","value":"‹` + strings.Repeat("x", 20000) + `›"}`, 400, "etcdserver: request is too large"},
		{"/v3/kv/put", `{"key":"‹a›","value":"‹` + strings.Repeat("x", 500000) + `›"}`, 400, "etcdserver: request is too large"},
		{"/v3/kv/txn", `{"success":{}}`, 400, "success should be a list of objects"},
		{"/v3/kv/txn", `{"success":[1]}`, 400, "success should be a list of objects"},
		{"/v3/kv/txn", `{"success":[{}]}`, 400, errUnknownOp.Message},
		{"/v3/kv/txn", `{"success":[{"request_put":[]}]}`, 400, "request_put should be an object"},
		{"/v3/kv/txn", `{"success":[` + ranges[:len(ranges)-1] + `]}`, 400, errTooWide.Message},
		{"/v3/kv/txn", `{"success":[` + many[:len(many)-1] + `]}`, 400, errTooMany.Message},
		{"/v3/kv/txn", nested, 400, errTooDeep.Message},
		{"/v3/kv/put", `{"key":"‹a›"} {}`, 400, "body should be valid JSON"},
		{"/v3/kv/nothing", `{}`, 404, errNoSuchURL.Message},
		{"/v4", `{}`, 404, errNoSuchURL.Message},
	} {
		h.refuse(tt.path, tt.body, tt.code, tt.text)
	}
	for kind, want := range map[string]int{"application/json; charset=utf-8": 200, "Application/JSON": 200, "text/json": 400, ";": 400} {
		if code, text := h.request("POST", "/v3/kv/range", kind, `{"key":"YQ=="}`); code != want {
			t.Errorf("Content-Type %q: %d %s", kind, code, text)
		}
	}
}

// clusterOf makes a node believe that it is member 1 of a cluster led by leader.
func clusterOf(leader uint64) func(*Config) {
	return func(c *Config) {
		c.Leader = func() uint64 { return leader }
		c.Epoch = func() int64 { return 7 }
	}
}

func TestLeaderFlags(t *testing.T) {
	body := `{"key":"‹a›"}`
	alone := start(t)
	alone.expect("/v3/kv/range?leaderonly=1&nowaitquorum=1", body, `{"header":{},"kvs":[]}`)
	replica := start(t, clusterOf(2))
	replica.refuse("/v3/kv/range?leaderonly=1", body, 503, "Not leader")
	replica.refuse("/v3/kv/range", `{"key":"‹a›","leaderonly":true}`, 503, "Not leader")
	replica.expect("/v3/kv/range?leaderonly=0&nowaitquorum=1", body, `{"header":{},"kvs":[]}`)
	orphan := start(t, clusterOf(0))
	orphan.refuse("/v3/kv/put?nowaitquorum=1", body, 503, "Quorum not available")
	if code, _ := orphan.post("/v3/maintenance/status?leaderonly=1", `{}`); code != 200 {
		t.Errorf("status is refused: %d", code)
	}
}

func TestAPIWithoutHTTP(t *testing.T) {
	h := start(t)
	if _, err := h.API(t.Context(), "kv_put", []byte(expand(`{"key":"‹a›","value":"‹1›"}`))); err != nil {
		t.Fatal(err)
	}
	answer, err := h.API(t.Context(), "kv_range", []byte(expand(`{"key":"‹a›","keys_only":true}`)))
	if err != nil || !strings.Contains(string(answer), expand(`[{"key":"‹a›"}]`)) {
		t.Errorf("%s, %v", answer, err)
	}
	_, err = h.API(t.Context(), "kv_nothing", nil)
	if e, ok := err.(*Error); !ok || e.Code != 404 {
		t.Errorf("unknown call: %v", err)
	}
	h.Drain(t.Context())
	if _, err = h.API(t.Context(), "kv_range", nil); err != error(errStopping) {
		t.Errorf("after the end: %v", err)
	}
	h.refuse("/v3/kv/range", `{"key":"‹a›"}`, 502, "Server is stopping")
}

// TestRevisionsAreTheStores: what others have written is there, byte by byte, at its revision.
func TestRevisionsAreTheStores(t *testing.T) {
	h := start(t)
	resp, err := h.primary.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a"), Value: []byte{0xff, 0, '>'}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	code, got := h.post("/v3/kv/range", `{"key":"‹a›"}`)
	want := fmt.Sprintf(`{"header":{"revision":%[1]d},"kvs":[{"key":"YQ==","value":"/wA+","mod_revision":%[1]d}]}`, resp.Header.Revision)
	if code != 200 || got != want {
		t.Errorf("%d %s, want %s", code, got, want)
	}
}
