package object_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

const (
	accessKey = "AKIDACCESSKEY"
	secretKey = "verysecretkeyofthetest"
)

// s3Config reaches a test server.
func s3Config(url string) object.Config {
	return object.Config{URL: "s3://bucket/pre/fix", S3: object.S3Config{Endpoint: url, AccessKey: accessKey, SecretKey: secretKey}}
}

// serve returns a store whose server is a function, and the number of requests that came.
func serve(t *testing.T, change func(*object.Config), handler http.HandlerFunc) (object.Store, *atomic.Int32) {
	t.Helper()
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	c := s3Config(server.URL)
	if change != nil {
		change(&c)
	}
	return open(t, c), &requests
}

// refuse answers as S3 does when it refuses.
func refuse(status int, code, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if code != "" && r.Method != http.MethodHead {
			fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message><RequestId>1</RequestId></Error>`, code, message)
		}
	}
}

// calls are the methods of a store, by a name.
var calls = map[string]func(context.Context, object.Store) error{
	"get": func(ctx context.Context, s object.Store) error {
		_, _, err := s.Get(ctx, "a", 0, -1)
		return err
	},
	"stat": func(ctx context.Context, s object.Store) error {
		_, _, err := s.Get(ctx, "a", 0, 0)
		return err
	},
	"list": func(ctx context.Context, s object.Store) error {
		return s.List(ctx, "", "", func(object.Info) error { return nil })
	},
	"put": func(ctx context.Context, s object.Store) error {
		_, err := s.Put(ctx, "a", []byte("x"), object.Condition{})
		return err
	},
	"create": func(ctx context.Context, s object.Store) error {
		_, err := s.Put(ctx, "a", []byte("x"), object.Condition{IfAbsent: true})
		return err
	},
	"swap": func(ctx context.Context, s object.Store) error {
		_, err := s.Put(ctx, "a", []byte("x"), object.Condition{IfVersion: "v"})
		return err
	},
	"upload": func(ctx context.Context, s object.Store) error {
		_, err := s.Upload(ctx, "a", strings.NewReader("x"))
		return err
	},
	"upload in parts": func(ctx context.Context, s object.Store) error {
		_, err := s.Upload(ctx, "a", io.LimitReader(zeroes{}, 9<<20))
		return err
	},
	"delete":  func(ctx context.Context, s object.Store) error { return s.Delete(ctx, "a") },
	"deletes": func(ctx context.Context, s object.Store) error { return s.Delete(ctx, "a", "b") },
}

// zeroes never ends.
type zeroes struct{}

// Read implements io.Reader.
func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// sentinels are all that an S3 store returns.
var sentinels = []error{
	object.ErrNotFound, object.ErrPrecondition, object.ErrDenied, object.ErrUnavailable, object.ErrConflict, object.ErrUnconditional,
	context.Canceled, context.DeadlineExceeded,
}

// only says whether an error is these sentinels and no others.
func only(err error, want ...error) bool {
	for _, s := range sentinels {
		expected := false
		for _, w := range want {
			expected = expected || w == s
		}
		if errors.Is(err, s) != expected {
			return false
		}
	}
	return err != nil
}

func TestS3Answers(t *testing.T) {
	all := []string{"get", "stat", "list", "put", "create", "swap", "upload", "upload in parts", "delete", "deletes"}
	bodied := []string{"get", "list", "put", "create", "swap", "upload", "upload in parts", "deletes"}
	for _, test := range []struct {
		status int
		code   string
		calls  []string
		want   []error
	}{
		{404, "NoSuchKey", []string{"get", "stat"}, []error{object.ErrNotFound}},
		{404, "NoSuchKey", []string{"swap"}, []error{object.ErrPrecondition}},
		{404, "NoSuchBucket", bodied, []error{object.ErrDenied}},
		{404, "", []string{"get", "stat", "list", "put", "create", "swap"}, []error{object.ErrUnavailable}},
		{404, "NoSuchUpload", []string{"upload in parts"}, []error{object.ErrUnavailable}},
		{412, "PreconditionFailed", []string{"create", "swap"}, []error{object.ErrPrecondition}},
		{409, "ConditionalRequestConflict", []string{"create", "swap"}, []error{object.ErrUnavailable, object.ErrConflict}},
		{409, "OperationAborted", []string{"put", "create"}, []error{object.ErrUnavailable}},
		{501, "NotImplemented", []string{"create", "swap"}, []error{object.ErrUnconditional}},
		{403, "AccessDenied", all, []error{object.ErrDenied}},
		{403, "InvalidAccessKeyId", bodied, []error{object.ErrDenied}},
		{403, "SignatureDoesNotMatch", bodied, []error{object.ErrDenied}},
		{403, "", all, []error{object.ErrDenied}},
		{401, "", all, []error{object.ErrDenied}},
		{301, "PermanentRedirect", bodied, []error{object.ErrDenied}},
		{307, "TemporaryRedirect", bodied, []error{object.ErrUnavailable}},
		{400, "AuthorizationHeaderMalformed", bodied, []error{object.ErrDenied}},
		{400, "ExpiredToken", bodied, []error{object.ErrUnavailable}},
		{400, "BadDigest", []string{"put"}, []error{object.ErrUnavailable}},
		{400, "InvalidArgument", []string{"put", "create", "get", "list"}, nil},
		{429, "", []string{"put", "create"}, []error{object.ErrUnavailable}},
		{503, "SlowDown", []string{"put", "create", "swap"}, []error{object.ErrUnavailable}},
		{500, "InternalError", []string{"put", "create", "swap"}, []error{object.ErrUnavailable}},
		{502, "", []string{"put", "create", "swap"}, []error{object.ErrUnavailable}},
	} {
		s, _ := serve(t, nil, refuse(test.status, test.code, "for a reason"))
		for _, call := range test.calls {
			if err := calls[call](t.Context(), s); !only(err, test.want...) {
				t.Errorf("%s answered %d %s: %v", call, test.status, test.code, err)
			}
		}
	}
}

// TestS3Attempts counts the requests that reach a server that is overloaded.
func TestS3Attempts(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]int32{"put": 1, "create": 1, "swap": 1, "get": 3, "list": 3, "delete": 3} {
		s, requests := serve(t, nil, refuse(503, "SlowDown", "slow down"))
		if err := calls[call](t.Context(), s); !only(err, object.ErrUnavailable) {
			t.Errorf("%s: %v", call, err)
		}
		if n := requests.Load(); n != want {
			t.Errorf("%s: %d requests, want %d", call, n, want)
		}
	}
}

// TestS3LostAnswers has connections cut after the request arrived.
func TestS3LostAnswers(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"put", "create", "swap", "get", "list", "delete", "deletes", "upload"} {
		s, requests := serve(t, nil, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		})
		for range 2 {
			if err := calls[call](t.Context(), s); !only(err, object.ErrUnavailable) {
				t.Errorf("%s: %v", call, err)
			}
		}
		if n := requests.Load(); n != 2 && (call == "put" || call == "create" || call == "swap") {
			t.Errorf("%s: %d requests, want 2", call, n)
		}
	}
}

// TestS3ConnectionClosedMeanwhile has a server that closes the kept connection when the next request arrives: a Put that
// was written into it is not sent again.
func TestS3ConnectionClosedMeanwhile(t *testing.T) {
	var first atomic.Bool
	first.Store(true)
	s, requests := serve(t, nil, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if first.Swap(false) {
			w.Header().Set("ETag", `"1"`)
			return
		}
		panic(http.ErrAbortHandler)
	})
	if err := calls["create"](t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := calls["create"](t.Context(), s); !only(err, object.ErrUnavailable) {
		t.Fatal(err)
	}
	if n := requests.Load(); n != 2 {
		t.Fatalf("%d requests, want 2", n)
	}
}

// hang answers nothing until the client has gone.
func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func TestS3TimeOut(t *testing.T) {
	s, _ := serve(t, func(c *object.Config) { c.Timeout = 30 * time.Millisecond }, hang)
	for name, call := range calls {
		if err := call(t.Context(), s); !only(err, object.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestS3ContextEnds(t *testing.T) {
	for name, call := range calls {
		ctx, cancel := context.WithCancel(t.Context())
		s, _ := serve(t, func(c *object.Config) { c.Timeout = time.Second }, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			hang(w, r)
		})
		if err := call(ctx, s); !only(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestS3NothingListens(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	s := open(t, s3Config(server.URL))
	for name, call := range calls {
		if err := call(t.Context(), s); !only(err, object.ErrUnavailable) || strings.Contains(err.Error(), secretKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestS3ErrorsHoldNoCredentials has a server that repeats them.
func TestS3ErrorsHoldNoCredentials(t *testing.T) {
	s, _ := serve(t, nil, refuse(403, "SignatureDoesNotMatch", "key "+accessKey+" with "+secretKey+"\n\x07 "+strings.Repeat("long ", 1000)))
	for name, call := range calls {
		err := call(t.Context(), s)
		if !only(err, object.ErrDenied) || strings.Contains(err.Error(), secretKey) || strings.Contains(err.Error(), accessKey) ||
			strings.ContainsAny(err.Error(), "\n\x07") || len(err.Error()) > 1000 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
