package apiserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// failures are the requests to kube-apiserver that failed. The zero value is
// empty; a nil one takes nothing. Its methods may be called concurrently.
type failures struct {
	mu     sync.Mutex
	counts map[string]int // by what was asked and answered
	wrong  []error        // those that a client may not send again
}

// add takes a request that failed. What /readyz says is no request of a client.
func (f *failures) add(method, path string, err error) {
	path, _, _ = strings.Cut(path, "?")
	if f == nil || path == "/readyz" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil {
		f.counts = map[string]int{}
	}
	f.counts[method+" "+describeFailure(err)]++
	if !retryable(err) {
		f.wrong = append(f.wrong, fmt.Errorf("%s %s: %w", method, path, err))
	}
}

// check fails the test for every request that failed for good.
func (f *failures) check(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, err := range f.wrong {
		t.Errorf("not retryable: %v", err)
	}
	for _, kind := range slices.Sorted(maps.Keys(f.counts)) {
		t.Logf("failed %d times: %s", f.counts[kind], kind)
	}
}

// answer is the part of a Status that tells a client what to do.
type answer struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (e *statusError) answer() answer {
	var a answer
	if json.Unmarshal([]byte(e.Body), &a) != nil {
		a.Message = e.Body
	}
	return a
}

var digits = regexp.MustCompile(`\d+`)

func describeFailure(err error) string {
	var status *statusError
	if !errors.As(err, &status) {
		return err.Error()
	}
	a := status.answer()
	return fmt.Sprintf("%d %s %s", status.Code, a.Reason, digits.ReplaceAllString(a.Message, "N"))
}

// passing matches the texts of those errors of etcd that pass. kube-apiserver has
// no code of its own for them and answers 500 with the text; a controller that gets
// it tries again later. The outcome of a write is then unknown.
//
//	leader changed, no leader      another node has become Primary, or will
//	request timed out              nobody has become Primary in time
//	unhealthy cluster              the Primary was lost with the answer
//	server stopped                 the node that was asked goes away
//	code = Unavailable             the connection to a node broke (gRPC)
var passing = regexp.MustCompile(`etcdserver: (leader changed|no leader|request timed out.*|unhealthy cluster|server stopped)$|rpc error: code = Unavailable `)

// retryable reports whether a client may send a request again that failed so:
//
//	429, 503, 504         by their meaning: TooManyRequests, ServiceUnavailable, Timeout
//	500 ServerTimeout     by its reason: kube-apiserver could not reach the store in time
//	500 with passing      see there
//
// Everything else would be taken for a verdict on the request: Conflict,
// AlreadyExists or NotFound for what nobody else has done, Gone for a watch or a
// list that must begin anew, and an unknown error of the store.
func retryable(err error) bool {
	var status *statusError
	if !errors.As(err, &status) {
		return false // no answer at all
	}
	switch status.Code {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	case http.StatusInternalServerError:
		a := status.answer()
		return a.Reason == "ServerTimeout" || passing.MatchString(a.Message)
	}
	return false
}

// TestRetryable shows what counts as an error that passes.
func TestRetryable(t *testing.T) {
	for _, test := range []struct {
		err  error
		want bool
	}{
		{&statusError{Code: 500, Body: `{"message":"etcdserver: leader changed"}`}, true},
		{&statusError{Code: 500, Body: `{"message":"etcdserver: request timed out, possibly due to previous leader failure"}`}, true},
		{&statusError{Code: 500, Body: `{"message":"rpc error: code = Unavailable desc = error reading from server: EOF"}`}, true},
		{&statusError{Code: 500, Body: `{"reason":"ServerTimeout","message":"wait"}`}, true},
		{&statusError{Code: 429, Body: "storage is (re)initializing"}, true},
		{&statusError{Code: 504, Body: `{"reason":"Timeout"}`}, true},
		{&statusError{Code: 500, Body: `{"message":"rpc error: code = Unknown desc = etcdserver: corrupt"}`}, false},
		{&statusError{Code: 500, Body: "not a Status"}, false},
		{&statusError{Code: 409, Body: `{"reason":"AlreadyExists"}`}, false},
		{&statusError{Code: 410, Body: `{"reason":"Expired","message":"etcdserver: leader changed"}`}, false},
		{io.ErrUnexpectedEOF, false},
	} {
		if got := retryable(test.err); got != test.want {
			t.Errorf("%v: retryable %v", test.err, got)
		}
		var f failures
		if f.add(http.MethodGet, configMaps.path+"?limit=1", test.err); (len(f.wrong) == 0) != test.want || len(f.counts) != 1 {
			t.Errorf("%v: counted as %v, wrong %v", test.err, f.counts, f.wrong)
		}
	}
}
