package apiserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

var errNoMetric = errors.New("no such metric")

// testConsistentReads checks by the metrics of kube-apiserver that consistent
// lists came from its watch cache: that works only with progress requests that
// are answered in time.
func (c *cluster) testConsistentReads(t *testing.T) {
	c.listAll(t, configMaps.path)
	served := int64(0)
	for line, count := range c.consistentReads(t) {
		switch {
		case !fromCache(line):
			t.Errorf("%d times not served from the cache: %s", count, line)
		case strings.Contains(line, `resource="configmaps"`):
			served += count
		}
	}
	if served == 0 {
		t.Errorf("no list of config maps among %s", consistentReads)
	}
}

// consistentReads is the count that kube-apiserver keeps of consistent lists.
const consistentReads = "apiserver_watch_cache_consistent_read_total"

// consistentReads returns the counts of consistent lists, by metric and labels.
func (c *cluster) consistentReads(t *testing.T) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for line := range strings.Lines(c.kubectl(t, "get", "--raw", "/metrics")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if strings.HasPrefix(name, consistentReads+"{") {
			out[name] = parseVersion(t, value)
		}
	}
	return out
}

// fromCache reports whether a count is of lists that came from the watch cache.
func fromCache(metric string) bool {
	return strings.Contains(metric, `fallback="false"`) && strings.Contains(metric, `success="true"`)
}

// requestCount matches kinsy's count of the requests of one method that ended
// with one code.
var requestCount = regexp.MustCompile(`^kinsy_grpc_requests_total\{code="(\w+)",method="([\w./]+)"\} (\d+)`)

// expectedCodes are the ends of requests that a healthy kube-apiserver leads
// to. OutOfRange is the answer for a compacted or future revision, Canceled the
// end of a watch whose client went away.
var expectedCodes = map[string]string{
	"KV/Range":           "OK OutOfRange",
	"KV/RangeStream":     "OK OutOfRange Canceled",
	"KV/Txn":             "OK",
	"KV/Compact":         "OK OutOfRange Unimplemented",
	"Lease/LeaseGrant":   "OK",
	"Watch/Watch":        "OK Canceled",
	"Maintenance/Status": "OK",
}

// testRequests checks by the metrics of kinsy what kube-apiserver has asked
// since the last restart: nothing but the calls that both profiles are made
// for, lists by RangeStream among them, and no errors.
func (c *cluster) testRequests(t *testing.T) {
	if c.kind == process.Reference {
		t.Skip("reads the metrics of kinsy")
	}
	seen := map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(c.storeMetrics(t)))
	for lines.Scan() {
		m := requestCount.FindStringSubmatch(lines.Text())
		if m == nil || m[3] == "0" {
			continue
		}
		code, method := m[1], m[2]
		seen[method+" "+code] = true
		if !strings.Contains(" "+expectedCodes[method]+" ", " "+code+" ") {
			t.Errorf("%s requests of %s ended with %s", m[3], method, code)
		}
	}
	if !seen["KV/RangeStream OK"] {
		t.Error("no list came by RangeStream")
	}
	if refused := seen["KV/Compact Unimplemented"]; refused != (c.kind == process.Netsy) {
		t.Errorf("compact calls refused: %v in profile %s", refused, c.kind)
	}
}

func (c *cluster) storeMetrics(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	text, err := fetch(ctx, c.store.MetricsURL()+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// gauge returns the value of a metric without labels.
func gauge(metrics, name string) (float64, error) {
	for line := range strings.Lines(metrics) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%w: %s", errNoMetric, name)
}

func fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("build request: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("get metrics: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("read metrics: %w", err)
	}
	return string(text), nil
}
