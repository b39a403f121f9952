package object_test

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

func TestValidConfigs(t *testing.T) {
	for _, c := range []object.Config{
		{},
		{Timeout: time.Second},
		{URL: "s3://bucket"}, {URL: "s3://bucket/"}, {URL: "s3://my.bucket-1/a/b c/"},
		{URL: "s3://bucket/p", S3: object.S3Config{AccessKey: "a", SecretKey: "b", SessionToken: "c"}},
		{URL: "s3://bucket/p", S3: object.S3Config{Endpoint: "https://[::1]:9000", AddressingStyle: object.AddressingVirtual}},
		{URL: "s3://bucket/p", S3: object.S3Config{SSE: object.SSEKMS, SSEKMSKeyID: "k", StorageClass: "STANDARD_IA"}},
		{URL: "file:///a/b"}, {URL: "file:///a b/%41", KeyFile: "keys"}, {URL: "file://localhost/a"},
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestInvalidConfigs(t *testing.T) {
	s3 := func(c object.S3Config) object.Config { return object.Config{URL: "s3://bucket", S3: c} }
	for _, test := range []struct {
		config object.Config
		flag   string
	}{
		{object.Config{URL: "bucket/prefix"}, "--object-store"},
		{object.Config{URL: "gs://bucket"}, "--object-store"},
		{object.Config{URL: "s3://"}, "--object-store"},
		{object.Config{URL: "s3://b"}, "--object-store"},
		{object.Config{URL: "s3:///prefix"}, "--object-store"},
		{object.Config{URL: "s3://bucket:9000/x"}, "--object-store"},
		{object.Config{URL: "s3:bucket"}, "--object-store"},
		{object.Config{URL: "s3://bucket/a/../b"}, "--object-store"},
		{object.Config{URL: "s3://bucket/a//b"}, "--object-store"},
		{object.Config{URL: "s3://bucket/a%00"}, "--object-store"},
		{object.Config{URL: "s3://bucket/" + strings.Repeat("x/", 300)}, "--object-store"},
		{object.Config{URL: "s3://bucket?region=x"}, "--object-store"},
		{object.Config{URL: "s3://bucket#x"}, "--object-store"},
		{object.Config{URL: "s3://user:hidden@bucket"}, "--object-store"},
		{object.Config{URL: "s3://user:hidden@bu cket"}, "--object-store"},
		{object.Config{URL: "file://dir/sub"}, "--object-store"},
		{object.Config{URL: "file:dir"}, "--object-store"},
		{object.Config{URL: "file:///"}, "--object-store"},
		{object.Config{URL: "file:///a/.."}, "--object-store"},
		{object.Config{KeyFile: "x"}, "--object-store-key-file"},
		{object.Config{URL: "s3://bucket", Timeout: -1}, "--object-store-timeout"},
		{object.Config{URL: "file:///a", S3: object.S3Config{Region: "x"}}, "--s3-"},
		{object.Config{S3: object.S3Config{Region: "x"}}, "--s3-"},
		{s3(object.S3Config{Endpoint: "localhost:9000"}), "--s3-endpoint"},
		{s3(object.S3Config{Endpoint: "ftp://host"}), "--s3-endpoint"},
		{s3(object.S3Config{Endpoint: "http://"}), "--s3-endpoint"},
		{s3(object.S3Config{Endpoint: "http://user:hidden@host"}), "--s3-endpoint"},
		{s3(object.S3Config{Endpoint: "http://host/?x=1"}), "--s3-endpoint"},
		{s3(object.S3Config{AddressingStyle: "other"}), "--s3-addressing-style"},
		{s3(object.S3Config{AccessKey: "hidden"}), "--s3-secret-key"},
		{s3(object.S3Config{SecretKey: "hidden"}), "--s3-access-key"},
		{s3(object.S3Config{SessionToken: "hidden"}), "--s3-session-token"},
		{s3(object.S3Config{AccessKey: "hidden", SecretKey: "hidden", Profile: "p"}), "--s3-profile"},
		{s3(object.S3Config{SSE: "rot13"}), "--s3-sse"},
		{s3(object.S3Config{SSE: object.SSEAES256, SSEKMSKeyID: "k"}), "--s3-sse-kms-key-id"},
	} {
		err := test.config.Validate()
		if err == nil || !strings.Contains(err.Error(), test.flag) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%+v: %v, want %s", test.config, err, test.flag)
			continue
		}
		if _, opened := object.Open(t.Context(), test.config); opened == nil || opened.Error() != err.Error() {
			t.Errorf("%+v: Open says %v", test.config, opened)
		}
	}
	if _, err := object.Open(t.Context(), object.Config{}); err == nil {
		t.Error("a config without a URL was opened")
	}
}

func TestS3ConfigIsPrintedWithoutCredentials(t *testing.T) {
	c := object.Config{URL: "s3://bucket", S3: object.S3Config{Region: "here", AccessKey: accessKey, SecretKey: secretKey, SessionToken: secretKey}}
	text := fmt.Sprintf("%v %+v %#v %s", c, c, c, c.S3)
	if strings.Contains(text, accessKey) || strings.Contains(text, secretKey) || !strings.Contains(text, "here") {
		t.Error(text)
	}
}

func TestRegion(t *testing.T) {
	if _, err := object.Open(t.Context(), object.Config{URL: "s3://bucket"}); err == nil || !strings.Contains(err.Error(), "--s3-region") {
		t.Errorf("no region: %v", err)
	}
	open(t, object.Config{URL: "s3://bucket", S3: object.S3Config{Region: "eu-west-1"}})
	open(t, object.Config{URL: "s3://bucket", S3: object.S3Config{Endpoint: "http://127.0.0.1:1"}})
	if _, err := object.Open(t.Context(), object.Config{URL: "s3://bucket", S3: object.S3Config{Region: "a", Profile: "none"}}); err == nil {
		t.Error("a profile that does not exist was taken")
	}
}

func TestNoCredentials(t *testing.T) {
	s := open(t, object.Config{URL: "s3://bucket", S3: object.S3Config{Endpoint: "http://127.0.0.1:1"}})
	if err := calls["put"](t.Context(), s); !only(err, object.ErrUnavailable) {
		t.Error(err)
	}
}

func TestCABundle(t *testing.T) {
	server := httptest.NewTLSServer(refuse(404, "NoSuchKey", "none"))
	t.Cleanup(server.Close)
	path := t.TempDir() + "/ca.pem"
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(path, bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	c := s3Config(server.URL)
	if err := calls["get"](t.Context(), open(t, c)); !only(err, object.ErrUnavailable) {
		t.Errorf("a certificate that nobody trusts: %v", err)
	}
	c.S3.CABundle = path
	if err := calls["get"](t.Context(), open(t, c)); !only(err, object.ErrNotFound) {
		t.Errorf("with the bundle: %v", err)
	}
	for _, bad := range []string{path + "x", keyFile(t, keyA)} {
		c.S3.CABundle = bad
		if _, err := object.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "--s3-ca-bundle") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
