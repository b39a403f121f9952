package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/kinsy/kinsy/internal/reload"
)

// authority is a certificate authority for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key}
}

// issue returns the PEM of a certificate and key for 127.0.0.1 in the name given.
func (a *authority) issue(t *testing.T, name string) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// client returns the TLS configuration of a client that trusts a; with a name it presents a certificate.
func (a *authority) client(t *testing.T, name string) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := &tls.Config{RootCAs: pool, NextProtos: []string{"h2", "http/1.1"}}
	if name != "" {
		certPEM, keyPEM := a.issue(t, name)
		cert, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c
}

// writeFiles writes a certificate in the name given and the authority's own, and returns a configuration of them.
func (a *authority) writeFiles(t *testing.T, dir, name string) Config {
	t.Helper()
	c := Config{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), TrustedCAFile: filepath.Join(dir, "ca.pem")}
	certPEM, keyPEM := a.issue(t, name)
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	for path, text := range map[string][]byte{c.CertFile: certPEM, c.KeyFile: keyPEM, c.TrustedCAFile: caPEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// touch gives the files a modification time of their own, whatever the file system's resolution.
func touch(t *testing.T, at time.Time, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// handshake connects both sides in memory and returns the name in the server's certificate and the server's error.
func handshake(t *testing.T, server, client *tls.Config) (name string, err error) {
	t.Helper()
	left, right := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	_ = left.SetDeadline(deadline)
	_ = right.SetDeadline(deadline)
	client = client.Clone()
	client.ServerName = "127.0.0.1"
	result := make(chan error, 1)
	go func() {
		conn := tls.Server(left, server)
		err := conn.HandshakeContext(t.Context())
		if err == nil {
			_, err = conn.Write([]byte{1})
		}
		_ = left.Close()
		result <- err
	}()
	conn := tls.Client(right, client)
	_, clientErr := conn.Read(make([]byte, 1)) // also hears a refusal that follows the handshake
	_ = right.Close()
	if err := <-result; err != nil {
		return "", err
	}
	if clientErr != nil {
		return "", clientErr
	}
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func TestCertificateReload(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	cfg := ca.writeFiles(t, dir, "first")
	log, hook := logtest.NewNullLogger()
	cfg.Logger = log
	start := time.Now()
	clock := start
	touch(t, start, cfg.CertFile, cfg.KeyFile, cfg.TrustedCAFile)
	source, err := newCertSource(cfg, func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	client := ca.client(t, "client")
	expect := func(want string) {
		t.Helper()
		if got, err := handshake(t, source.forGRPC(), client); err != nil || got != want {
			t.Fatalf("certificate of %q (%v), want %q", got, err, want)
		}
	}
	expect("first")

	ca.writeFiles(t, dir, "second")
	touch(t, start.Add(time.Minute), cfg.CertFile, cfg.KeyFile)
	expect("first") // the files are not looked at within the same second
	clock = clock.Add(reload.Interval)
	expect("second")

	if err := os.WriteFile(cfg.CertFile, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	hook.Reset()
	for range 3 {
		clock = clock.Add(reload.Interval)
		expect("second")
	}
	if got := countLevel(hook, logrus.ErrorLevel); got != 1 {
		t.Errorf("%d errors logged for one broken file", got)
	}

	ca.writeFiles(t, dir, "third")
	touch(t, start.Add(2*time.Minute), cfg.CertFile, cfg.KeyFile)
	clock = clock.Add(reload.Interval)
	expect("third")

	if err := os.Remove(cfg.KeyFile); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(reload.Interval)
	expect("third")
}

func countLevel(hook *logtest.Hook, level logrus.Level) int {
	n := 0
	for _, e := range hook.AllEntries() {
		if e.Level == level {
			n++
		}
	}
	return n
}

func TestClientCertificates(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	source, err := newCertSource(ca.writeFiles(t, dir, "server"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	stranger := newAuthority(t).client(t, "stranger")
	stranger.RootCAs = ca.client(t, "").RootCAs
	for name, tt := range map[string]struct {
		client *tls.Config
		ok     bool
	}{
		"known":    {ca.client(t, "client"), true},
		"none":     {ca.client(t, ""), false},
		"stranger": {stranger, false},
	} {
		for _, conf := range []*tls.Config{source.forGRPC(), source.forHTTP()} {
			if _, err := handshake(t, conf, tt.client); (err == nil) != tt.ok {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestBrokenFilesAtStart(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	good := ca.writeFiles(t, dir, "server")
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"certificate": func(c *Config) { c.CertFile = empty },
		"key":         func(c *Config) { c.KeyFile = filepath.Join(dir, "missing") },
		"CA":          func(c *Config) { c.TrustedCAFile = empty },
	} {
		cfg := good
		change(&cfg)
		if _, err := newCertSource(cfg, time.Now); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
