package object_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// readBody reads what a server sends for an object.
func readBody(t *testing.T, timeout time.Duration, handler http.HandlerFunc) ([]byte, error) {
	t.Helper()
	s, _ := serve(t, func(c *object.Config) { c.Timeout = timeout }, handler)
	r, _, err := s.Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestS3BodyIsCut(t *testing.T) {
	_, err := readBody(t, 0, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(make([]byte, 50_000))
		panic(http.ErrAbortHandler)
	})
	if !only(err, object.ErrUnavailable) {
		t.Fatal(err)
	}
}

func TestS3BodyStalls(t *testing.T) {
	_, err := readBody(t, 50*time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(make([]byte, 50_000))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	if !only(err, object.ErrUnavailable) {
		t.Fatal(err)
	}
}

// TestS3WrongChecksum has a server whose bytes are not those it has the checksum of: the end of them is not given out.
func TestS3WrongChecksum(t *testing.T) {
	for checksum, good := range map[string]bool{"4waSgw==": true, "4waSgg==": false} { // CRC-32C of "123456789"
		got, err := readBody(t, 0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("x-amz-checksum-crc32c", checksum)
			fmt.Fprint(w, "123456789")
		})
		if good && (err != nil || string(got) != "123456789") || !good && (!only(err, object.ErrUnavailable) || len(got) == 9) {
			t.Errorf("%s: got %q, %v", checksum, got, err)
		}
	}
}

func TestS3AnotherRange(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"all of it": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "0123456789") },
		"another start": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-4/10")
			w.WriteHeader(http.StatusPartialContent)
			fmt.Fprint(w, "01234")
		},
		"no size": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 5-9/*")
			w.WriteHeader(http.StatusPartialContent)
			fmt.Fprint(w, "56789")
		},
	} {
		s, _ := serve(t, nil, handler)
		if _, _, err := s.Get(t.Context(), "a", 5, 5); err == nil {
			t.Errorf("%s was taken for the range", name)
		}
	}
	s, _ := serve(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 5-6/10")
		w.WriteHeader(http.StatusPartialContent)
		fmt.Fprint(w, "56")
	})
	r, info, err := s.Get(t.Context(), "a", 5, 5)
	if err != nil || info.Size != 10 {
		t.Fatalf("info %+v, %v", info, err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); !only(err, object.ErrUnavailable) {
		t.Fatalf("less than the range: %v", err)
	}
}

func TestS3ListOutOfOrder(t *testing.T) {
	s, _ := serve(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>`+
			`<Contents><Key>pre/fix/b</Key><Size>1</Size></Contents><Contents><Key>pre/fix/a</Key><Size>1</Size></Contents></ListBucketResult>`)
	})
	var keys []string
	err := s.List(t.Context(), "", "", func(i object.Info) error {
		keys = append(keys, i.Key)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "order") || len(keys) != 1 {
		t.Fatalf("listed %q, %v", keys, err)
	}
}

func TestS3ForeignNamesAreNotListed(t *testing.T) {
	s, _ := serve(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>`)
		for _, key := range []string{"other/a", "pre/fix/", "pre/fix/.x", "pre/fix/a//b", "pre/fix/chunks/", "pre/fix/chunks/1"} {
			fmt.Fprintf(w, `<Contents><Key>%s</Key><Size>7</Size><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>"x"</ETag></Contents>`, key)
		}
		fmt.Fprint(w, `</ListBucketResult>`)
	})
	var got []object.Info
	if err := s.List(t.Context(), "", "", func(i object.Info) error {
		got = append(got, i)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := object.Info{Key: "chunks/1", Size: 7, Modified: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if len(got) != 1 || got[0] != want {
		t.Fatalf("listed %+v", got)
	}
}

// requestsOf returns the requests of some calls, to a server that says yes to all of them.
func requestsOf(t *testing.T, change func(*object.Config), do ...string) []*http.Request {
	t.Helper()
	var mu sync.Mutex
	var requests []*http.Request
	s, _ := serve(t, change, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		requests = append(requests, r)
		mu.Unlock()
		w.Header().Set("ETag", `"tag"`)
		switch {
		case r.Method == http.MethodPost && r.URL.Query().Has("uploads"):
			fmt.Fprint(w, `<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>`)
		case r.Method == http.MethodPost && r.URL.Query().Has("uploadId"):
			fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"tag-2"</ETag></CompleteMultipartUploadResult>`)
		case r.Method == http.MethodPost:
			fmt.Fprint(w, `<DeleteResult></DeleteResult>`)
		}
	})
	for _, call := range do {
		if err := calls[call](t.Context(), s); err != nil {
			t.Fatalf("%s: %v", call, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return requests
}

func TestS3RequestHeaders(t *testing.T) {
	kms := func(c *object.Config) {
		c.S3.SSE, c.S3.SSEKMSKeyID, c.S3.StorageClass = object.SSEKMS, "key-1", "STANDARD_IA"
	}
	requests := requestsOf(t, kms, "create", "swap", "upload")
	create, swap, upload := requests[0], requests[1], requests[2]
	for _, r := range requests {
		h := r.Header
		if r.Method != http.MethodPut || r.URL.Path != "/bucket/pre/fix/a" || h.Get("x-amz-checksum-crc32c") != "qTxfkw==" ||
			len(h.Get("x-amz-content-sha256")) != 64 || h.Get("Expect") != "" || h.Get("Content-Encoding") != "" || r.ContentLength != 1 ||
			h.Get("x-amz-server-side-encryption") != "aws:kms" || h.Get("x-amz-server-side-encryption-aws-kms-key-id") != "key-1" {
			t.Errorf("%s %s %v", r.Method, r.URL, h)
		}
	}
	if create.Header.Get("If-None-Match") != "*" || create.Header.Get("If-Match") != "" || create.Header.Get("x-amz-storage-class") != "" {
		t.Errorf("create: %v", create.Header)
	}
	if swap.Header.Get("If-Match") != `"v"` || swap.Header.Get("If-None-Match") != "" {
		t.Errorf("swap: %v", swap.Header)
	}
	if upload.Header.Get("x-amz-storage-class") != "STANDARD_IA" {
		t.Errorf("upload: %v", upload.Header)
	}
	for _, r := range requestsOf(t, kms, "upload in parts") {
		h := r.Header
		if r.URL.Query().Has("uploads") && (h.Get("x-amz-storage-class") != "STANDARD_IA" || h.Get("x-amz-server-side-encryption") != "aws:kms" ||
			h.Get("x-amz-server-side-encryption-aws-kms-key-id") != "key-1") {
			t.Errorf("upload in parts: %v", h)
		}
		if r.Method == http.MethodPut && (h.Get("x-amz-checksum-crc32c") == "" || h.Get("Expect") != "") {
			t.Errorf("part: %v", h)
		}
	}
}

func TestS3DeleteHasTheOldChecksum(t *testing.T) {
	r := requestsOf(t, nil, "deletes")[0]
	if r.Header.Get("Content-MD5") == "" || r.Header.Get("x-amz-checksum-crc32") != "" {
		t.Fatal(r.Header)
	}
}

func TestS3AnswerWithoutETag(t *testing.T) {
	s, _ := serve(t, nil, func(http.ResponseWriter, *http.Request) {})
	if err := calls["put"](t.Context(), s); !only(err, object.ErrUnconditional) {
		t.Fatal(err)
	}
}

// TestS3DeletesOneByOne has a server that does not know DeleteObjects.
func TestS3DeletesOneByOne(t *testing.T) {
	var deleted sync.Map
	s, _ := serve(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodDelete {
			refuse(501, "NotImplemented", "not implemented")(w, r)
			return
		}
		deleted.Store(r.URL.Path, true)
		w.WriteHeader(http.StatusNoContent)
	})
	if err := s.Delete(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/bucket/pre/fix/a", "/bucket/pre/fix/b"} {
		if _, ok := deleted.Load(path); !ok {
			t.Errorf("%s was not deleted", path)
		}
	}
}

func TestS3DeleteRefusedForSome(t *testing.T) {
	for code, want := range map[string]error{"AccessDenied": object.ErrDenied, "InternalError": object.ErrUnavailable} {
		s, _ := serve(t, nil, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, `<DeleteResult><Error><Key>pre/fix/b</Key><Code>%s</Code><Message>no</Message></Error></DeleteResult>`, code)
		})
		if err := s.Delete(t.Context(), "a", "b"); !only(err, want) {
			t.Errorf("%s: %v", code, err)
		}
	}
}
