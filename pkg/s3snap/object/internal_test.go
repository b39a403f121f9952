package object

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

func TestAddressingStyle(t *testing.T) {
	for _, test := range []struct {
		endpoint, style string
		path            bool
	}{
		{"", "", false},
		{"", AddressingAuto, false},
		{"", AddressingPath, true},
		{"http://127.0.0.1:1", "", true},
		{"http://127.0.0.1:1", AddressingAuto, true},
		{"http://127.0.0.1:1", AddressingVirtual, false},
	} {
		c := Config{S3: S3Config{Region: "r", Endpoint: test.endpoint, AddressingStyle: test.style, AccessKey: "a", SecretKey: "b"}}
		s, err := openS3(t.Context(), location{bucket: "bucket"}, c)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.client.Options().UsePathStyle; got != test.path {
			t.Errorf("endpoint %q, style %q: path style %t", test.endpoint, test.style, got)
		}
	}
}

// TestEnvironmentChangesNoAttempts has the environment ask for more attempts than a Put may have.
func TestEnvironmentChangesNoAttempts(t *testing.T) {
	t.Setenv("AWS_MAX_ATTEMPTS", "10")
	t.Setenv("AWS_RETRY_MODE", "adaptive")
	s, err := openS3(t.Context(), location{bucket: "bucket"}, Config{S3: S3Config{Region: "r", AccessKey: "a", SecretKey: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	o := s.client.Options()
	if n := o.Retryer.MaxAttempts(); n != readAttempts {
		t.Errorf("reads have %d attempts", n)
	}
	once(&o)
	if n := o.Retryer.MaxAttempts(); n != 1 {
		t.Errorf("a Put has %d attempts", n)
	}
}

func TestFileErrorsAreTold(t *testing.T) {
	for _, test := range []struct{ err, want error }{
		{fs.ErrNotExist, ErrNotFound},
		{syscall.ENOTDIR, ErrNotFound},
		{fs.ErrPermission, ErrDenied},
		{syscall.EROFS, ErrDenied},
		{syscall.ENOSPC, ErrUnavailable},
		{syscall.EIO, ErrUnavailable},
		{ErrOffset, ErrOffset},
	} {
		if err := fileError(&os.PathError{Op: "open", Err: test.err}); !errors.Is(err, test.want) {
			t.Errorf("%v: %v", test.err, err)
		}
	}
	if err := fileError(nil); err != nil {
		t.Error(err)
	}
}

func TestSizesOfEncryptedObjects(t *testing.T) {
	for _, plain := range []int64{0, 1, segmentSize - 1, segmentSize, segmentSize + 1, 10 * segmentSize, 1 << 40} {
		if got, ok := plainSize(sealedSize(plain)); got != plain || !ok {
			t.Errorf("%d bytes became %d, %t", plain, got, ok)
		}
	}
	for _, sealed := range []int64{-1, 0, headerSize, headerSize + tagSize - 1, headerSize + sealedSegment + 1, headerSize + sealedSegment + tagSize} {
		if got, ok := plainSize(sealed); ok {
			t.Errorf("%d encrypted bytes were taken for %d plain ones", sealed, got)
		}
	}
}

func BenchmarkEncryptedPut(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			keys, err := ParseKeys([]byte("a MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="))
			if err != nil {
				b.Fatal(err)
			}
			s := Encrypt(NewMemory(), keys)
			body := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := s.Put(b.Context(), "a", body, Condition{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFilePut(b *testing.B) {
	s, err := openFile(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	body := make([]byte, 4<<10)
	n := 0
	for b.Loop() {
		if _, err := s.Put(b.Context(), fmt.Sprintf("chunks/%020d", n), body, Condition{IfAbsent: true}); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
