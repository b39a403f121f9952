package gateway

import (
	"context"
	"regexp"
	"testing"
)

func TestStatus(t *testing.T) {
	members := func(context.Context) []Member {
		return []Member{{1, "n1", "http://a:1"}, {2, "n2", "http://b:1"}, {3, "n3", "http://c:1"}}
	}
	cluster := func(leader uint64) func(*Config) {
		return func(c *Config) {
			clusterOf(leader)(c)
			c.Members = members
		}
	}
	const nodes = `"cluster":{"n1":"http://a:1","n2":"http://b:1","n3":"http://c:1"},`
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"alone":     {func(*Config) {}, `{"header":{"revision":1,"compact_revision":0},"version":"kinsy 1.2.3","dbSize":N}`},
		"leader":    {cluster(1), `{"header":{"member_id":"n1","revision":1,"compact_revision":0,"raft_term":7},"version":"kinsy 1.2.3",` + nodes + `"leader":"n1","followers":["n2","n3"],"raftTerm":7,"raftState":"leader","dbSize":N}`},
		"follower":  {cluster(2), `{"header":{"member_id":"n1","revision":1,"compact_revision":0,"raft_term":7},"version":"kinsy 1.2.3",` + nodes + `"leader":"n2","raftTerm":7,"raftState":"follower","dbSize":N}`},
		"candidate": {cluster(0), `{"header":{"member_id":"n1","revision":1,"compact_revision":0,"raft_term":7},"version":"kinsy 1.2.3",` + nodes + `"raftTerm":7,"raftState":"candidate","dbSize":N}`},
	} {
		h := start(t, tt.change)
		code, text := h.post("/v3/maintenance/status", `{}`)
		if got := regexp.MustCompile(`"dbSize":[0-9]+`).ReplaceAllString(text, `"dbSize":N`); code != 200 || got != tt.want {
			t.Errorf("%s: %d\n%s\nwant\n%s", name, code, got, tt.want)
		}
	}
}
