package gateway

import (
	"fmt"
	"regexp"
	"testing"
)

func TestLeases(t *testing.T) {
	h := start(t)
	before := h.store.Revision()
	code, answer := h.post("/v3/lease/grant", `{"TTL":60}`)
	id := regexp.MustCompile(`"ID":"([0-9a-f]{16})","TTL":60}$`).FindStringSubmatch(answer)
	if code != 200 || id == nil {
		t.Fatalf("%d %s", code, answer)
	}
	lease := `{"ID":"` + id[1] + `"}`
	h.expect("/v3/lease/keepalive", lease, `{"result":{"header":{},"ID":"`+id[1]+`","TTL":"60"}}`)
	if h.store.Revision() != before {
		t.Error("a lease moved the revision")
	}
	h.expect("/v3/kv/put", `{"key":"‹a›","value":"‹1›","lease":"`+id[1]+`"}`, `{"header":{}}`)
	h.expect("/v3/kv/range", `{"key":"‹a›"}`, `{"header":{},"kvs":[{"key":"‹a›","value":"‹1›","mod_revision":"*","lease":"`+id[1]+`"}]}`)
	if got := h.expect("/v3/kv/lease/revoke", lease, `{"header":{}}`); got != before+2 {
		t.Errorf("revision %d after the revocation, %d at first", got, before)
	}
	h.expect("/v3/kv/range", `{"key":"‹a›"}`, `{"header":{},"kvs":[]}`)
	for _, path := range []string{"/v3/lease/keepalive", "/v3/lease/revoke", "/v3/kv/lease/revoke"} {
		for _, body := range []string{lease, `{}`, `{"ID":"nonsense"}`, `{"ID":{}}`} {
			h.refuse(path, body, 400, "unknown lease")
		}
	}
	h.refuse("/v3/kv/put", `{"key":"‹a›","value":"‹1›","lease":"`+id[1]+`"}`, 400, "unknown lease: "+id[1])
}

func TestLeaseIDs(t *testing.T) {
	h := start(t)
	h.expect("/v3/lease/grant", `{"ID":123,"TTL":60}`, `{"header":{},"ID":"000000000000007b","TTL":60}`)
	h.expect("/v3/lease/grant", `{"ID":"7587848390531225346","TTL":"60"}`, `{"header":{},"ID":"694d73e8b7221702","TTL":"60"}`)
	h.expect("/v3/lease/grant", `{"ID":"ffffffffffffffff","TTL":60}`, `{"header":{},"ID":"ffffffffffffffff","TTL":60}`)
	h.expect("/v3/lease/keepalive", `{"ID":"7587848390531225346"}`, `{"result":{"header":{},"ID":"694d73e8b7221702","TTL":"60"}}`)
	h.expect("/v3/lease/keepalive", `{"ID":"FFFFFFFFFFFFFFFF"}`, `{"result":{"header":{},"ID":"ffffffffffffffff","TTL":"60"}}`)
	h.expect("/v3/lease/grant", `{"ID":"0000000000000005","TTL":1}`, `{"header":{},"ID":"0000000000000005","TTL":2}`)
	h.refuse("/v3/lease/grant", `{"ID":123,"TTL":60}`, 400, "etcdserver: lease already exists")
	h.refuse("/v3/lease/grant", `{"ID":"abc","TTL":60}`, 400, errLeaseID.Message)
	h.refuse("/v3/lease/grant", `{"TTL":0}`, 400, "TTL should be a number of seconds above 0")
	h.refuse("/v3/lease/grant", `{}`, 400, "TTL should be a number of seconds above 0")
	h.refuse("/v3/lease/grant", `{"TTL":9000000001}`, 400, "etcdserver: too large lease TTL")
}

func TestCallsOfEtcd(t *testing.T) {
	h := start(t)
	h.expect("/v3/lease/grant", `{"ID":"00000000000000ab","TTL":100}`, `{"header":{},"ID":"00000000000000ab","TTL":100}`)
	h.expect("/v3/kv/put", `{"key":"‹a›","value":"‹1›","lease":171}`, `{"header":{}}`)
	last := h.expect("/v3/kv/put", `{"key":"‹b›","value":"‹1›","lease":171}`, `{"header":{}}`)
	h.expect("/v3/lease/leases", `{}`, `{"header":{},"leases":[{"ID":"00000000000000ab"}]}`)
	code, answer := h.post("/v3/kv/lease/timetolive", `{"ID":"171","keys":true}`)
	if want := regexp.MustCompile(`"ID":"00000000000000ab","TTL":[0-9]+,"grantedTTL":100,"keys":\["YQ==","Yg=="\]}$`); code != 200 || !want.MatchString(answer) {
		t.Errorf("%d %s", code, answer)
	}
	h.expect("/v3/lease/timetolive", `{"ID":"00000000000000ac"}`, `{"header":{},"ID":"00000000000000ac","TTL":-1,"grantedTTL":0}`)
	h.expect("/v3/kv/compaction", `{"revision":"`+fmt.Sprint(last)+`","physical":true}`, `{"header":{}}`)
	h.refuse("/v3/kv/compaction", `{"revision":1}`, 400, "etcdserver: mvcc: required revision has been compacted")
}
