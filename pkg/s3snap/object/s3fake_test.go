package object_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/object/objecttest"
)

// fakeS3 is an S3 server for one bucket, its objects in memory. It checks that bodies are what their checksums say.
type fakeS3 struct {
	objects *object.Memory
	before  func(w http.ResponseWriter, r *http.Request) bool // may answer instead

	mu      sync.Mutex
	uploads map[string]map[int][]byte
}

func newFakeS3(t *testing.T) (*fakeS3, string) {
	t.Helper()
	f := &fakeS3{objects: object.NewMemory(), uploads: make(map[string]map[int][]byte)}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return f, server.URL
}

// ServeHTTP implements http.Handler.
func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.before != nil && f.before(w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if sum := sha256.Sum256(body); r.Header.Get("x-amz-content-sha256") != hex.EncodeToString(sum[:]) {
		refuse(400, "XAmzContentSHA256Mismatch", "other bytes")(w, r)
		return
	}
	key := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/bucket"), "/")
	q := r.URL.Query()
	switch {
	case key == "" && r.Method == http.MethodGet:
		f.list(w, r)
	case key == "" && r.Method == http.MethodPost && q.Has("delete"):
		f.deletes(w, r, body)
	case q.Has("uploads") || q.Has("uploadId"):
		f.multipart(w, r, key, body)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		f.get(w, r, key)
	case r.Method == http.MethodPut:
		f.put(w, r, key, body)
	case r.Method == http.MethodDelete:
		_ = f.objects.Delete(r.Context(), key)
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(405, "MethodNotAllowed", "no")(w, r)
	}
}

func (f *fakeS3) get(w http.ResponseWriter, r *http.Request, key string) {
	body, info, err := object.ReadAll(r.Context(), f.objects, key, 1<<30)
	if err != nil {
		refuse(404, "NoSuchKey", "none")(w, r)
		return
	}
	w.Header().Set("ETag", `"`+info.Version+`"`)
	w.Header().Set("Last-Modified", info.Modified.UTC().Format(http.TimeFormat))
	if first, last, ok := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-"); ok {
		start, _ := strconv.Atoi(first)
		end, err := strconv.Atoi(last)
		if err != nil || end >= len(body) {
			end = len(body) - 1
		}
		if start >= len(body) {
			refuse(416, "InvalidRange", "beyond")(w, r)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end, len(body)))
		body = body[start : end+1]
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
}

func (f *fakeS3) put(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	version := strings.Trim(r.Header.Get("If-Match"), `"`)
	cond := object.Condition{IfAbsent: r.Header.Get("If-None-Match") == "*", IfVersion: version}
	version, err := f.objects.Put(r.Context(), key, body, cond)
	switch {
	case errors.Is(err, object.ErrPrecondition):
		refuse(412, "PreconditionFailed", "no")(w, r)
	case err != nil:
		refuse(400, "InvalidArgument", err.Error())(w, r)
	default:
		w.Header().Set("ETag", `"`+version+`"`)
	}
}

func (f *fakeS3) list(w http.ResponseWriter, r *http.Request) {
	const page = 1000
	q := r.URL.Query()
	after := max(q.Get("start-after"), q.Get("continuation-token"))
	n, last := 0, ""
	full := errors.New("full")
	var out bytes.Buffer
	err := f.objects.List(r.Context(), q.Get("prefix"), after, func(info object.Info) error {
		if n == page {
			return full
		}
		n, last = n+1, info.Key
		out.WriteString("<Contents><Key>")
		_ = xml.EscapeText(&out, []byte(info.Key))
		fmt.Fprintf(&out, "</Key><Size>%d</Size></Contents>", info.Size)
		return nil
	})
	fmt.Fprintf(w, "<ListBucketResult><IsTruncated>%t</IsTruncated>", err == full)
	if err == full {
		fmt.Fprintf(w, "<NextContinuationToken>%s</NextContinuationToken>", last)
	}
	fmt.Fprintf(w, "%s</ListBucketResult>", out.Bytes())
}

func (f *fakeS3) deletes(w http.ResponseWriter, r *http.Request, body []byte) {
	var request struct {
		Object []struct{ Key string }
	}
	if err := xml.Unmarshal(body, &request); err != nil || len(request.Object) > 1000 {
		refuse(400, "MalformedXML", "no")(w, r)
		return
	}
	for _, o := range request.Object {
		_ = f.objects.Delete(r.Context(), o.Key)
	}
	fmt.Fprint(w, "<DeleteResult></DeleteResult>")
}

func (f *fakeS3) multipart(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.URL.Query()
	if q.Has("uploads") {
		id := fmt.Sprintf("upload-%d", len(f.uploads))
		f.uploads[id] = make(map[int][]byte)
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
		return
	}
	id := q.Get("uploadId")
	parts, ok := f.uploads[id]
	switch {
	case !ok:
		refuse(404, "NoSuchUpload", "none")(w, r)
	case r.Method == http.MethodPut:
		number, _ := strconv.Atoi(q.Get("partNumber"))
		parts[number] = body
		w.Header().Set("ETag", fmt.Sprintf(`"part-%d"`, number))
	case r.Method == http.MethodDelete:
		delete(f.uploads, id)
		w.WriteHeader(http.StatusNoContent)
	default:
		f.completeLocked(w, r, key, id, body)
	}
}

// completeLocked makes an object of the parts that a request names, in that order.
func (f *fakeS3) completeLocked(w http.ResponseWriter, r *http.Request, key, id string, body []byte) {
	var request struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	parts := f.uploads[id]
	ordered := xml.Unmarshal(body, &request) == nil && len(request.Part) == len(parts)
	var whole []byte
	for i, p := range request.Part {
		part, ok := parts[p.PartNumber]
		ordered = ordered && ok && p.PartNumber == i+1 && p.ETag == fmt.Sprintf(`"part-%d"`, i+1)
		ordered = ordered && (len(part) == 8<<20 || i == len(parts)-1)
		whole = append(whole, part...)
	}
	if !ordered {
		refuse(400, "InvalidPart", "no")(w, r)
		return
	}
	delete(f.uploads, id)
	version, _ := f.objects.Put(r.Context(), key, whole, object.Condition{})
	fmt.Fprintf(w, `<CompleteMultipartUploadResult><ETag>"%s"</ETag></CompleteMultipartUploadResult>`, version)
}

// open returns the uploads that are not ended.
func (f *fakeS3) open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.uploads)
}

func TestS3(t *testing.T) {
	t.Parallel()
	objecttest.Run(t, func(t *testing.T) object.Store {
		f, url := newFakeS3(t)
		t.Cleanup(func() {
			if n := f.open(); n > 0 {
				t.Errorf("%d uploads left behind", n)
			}
		})
		return open(t, s3Config(url))
	})
}

func TestEncryptedS3(t *testing.T) {
	t.Parallel()
	objecttest.Run(t, func(t *testing.T) object.Store {
		_, url := newFakeS3(t)
		c := s3Config(url)
		c.KeyFile = keyFile(t, keyA)
		return open(t, c)
	})
}

// TestS3UploadPartsThatFail has a server that does not take a part at first, and one that never takes it.
func TestS3UploadPartsThatFail(t *testing.T) {
	t.Parallel()
	for _, failures := range []int{4, 1 << 30} {
		f, url := newFakeS3(t)
		var mu sync.Mutex
		left := failures
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			if r.URL.Query().Get("partNumber") != "2" || left == 0 {
				return false
			}
			left--
			refuse(503, "SlowDown", "slow down")(w, r)
			return true
		}
		s := open(t, s3Config(url))
		body := bytes.Repeat([]byte("0123456789"), 2_000_000)
		info, err := s.Upload(t.Context(), "a", bytes.NewReader(body))
		if failures == 4 {
			got, _, errGet := object.ReadAll(t.Context(), s, "a", 1<<30)
			if err != nil || errGet != nil || info.Size != int64(len(body)) || !slices.Equal(got, body) {
				t.Errorf("a part that is taken at last: %v, %v, %+v", err, errGet, info)
			}
		} else if !only(err, object.ErrUnavailable) {
			t.Errorf("a part that is never taken: %v", err)
		}
		if n := f.open(); n != 0 {
			t.Errorf("%d uploads left behind", n)
		}
	}
}
