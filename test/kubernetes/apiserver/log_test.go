package apiserver

import (
	"bufio"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

// outages are the times in which the store was away, or kube-apiserver still
// noticed that it had been.
type outages [][2]time.Time

func (o outages) cover(at time.Time) bool {
	for _, outage := range o {
		if at.After(outage[0]) && at.Before(outage[1]) {
			return true
		}
	}
	return false
}

var (
	// klogLine matches a warning or error of kube-apiserver.
	klogLine = regexp.MustCompile(`^[WEF](\d{4} \d{2}:\d{2}:\d{2}\.\d{6})`)
	// zapLine matches one of its etcd client.
	zapLine = regexp.MustCompile(`^\{"level":"(?:warn|error|fatal|panic)","ts":"([^"]+)"`)
	// storeTrouble matches what a line says when it is about the store.
	storeTrouble = regexp.MustCompile(`etcd|grpc|rpc error|Unimplemented|watch chan|compact|cacher|reflector`)
)

const klogTime = "20060102 15:04:05.000000"

// refusedCompaction matches what kube-apiserver and its etcd client say of the
// compact call in the netsy profile, where this is the answer asked for.
var refusedCompaction = regexp.MustCompile(`compact failed: .*Unimplemented|KV/Compact".*Unimplemented`)

// checkLog fails the test for every warning or error in the log of
// kube-apiserver that is about the store and lies outside the outages.
func (c *cluster) checkLog(t *testing.T) {
	t.Helper()
	f, err := os.Open(c.serverLog())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	refused, covered := 0, 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		at, ok := lineTime(line)
		switch {
		case !ok || !storeTrouble.MatchString(line):
		case c.kind == process.Netsy && refusedCompaction.MatchString(line):
			refused++
		case c.outages.cover(at):
			covered++
		default:
			t.Errorf("kube-apiserver: %s", line)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("lines about the store: %d on refused compact calls, %d during outages", refused, covered)
}

// lineTime returns when a line was logged; ok is false for a line that is no
// warning or error.
func lineTime(line string) (at time.Time, ok bool) {
	if m := klogLine.FindStringSubmatch(line); m != nil {
		year := time.Now().Format("2006")
		at, err := time.ParseInLocation(klogTime, year+m[1], time.Local)
		return at, err == nil
	}
	if m := zapLine.FindStringSubmatch(line); m != nil {
		at, err := time.Parse("2006-01-02T15:04:05.000000Z0700", m[1])
		return at, err == nil
	}
	return time.Time{}, false
}
