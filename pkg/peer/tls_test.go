package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/internal/reload"
	"github.com/kinsy/kinsy/pkg/elect"
)

// authority signs certificates of nodes.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	a := &authority{}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue writes the files of a node of a name and cluster into a folder.
func (a *authority) issue(t testing.TB, dir, name, cluster string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name, Organization: []string{"others", cluster}},
		NotAfter:    time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "EC PRIVATE KEY", Bytes: keyDER},
		"ca": {Type: "CERTIFICATE", Bytes: a.cert.Raw},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// secureConfig is config with certificates from a folder.
func secureConfig(id elect.NodeID, name, dir string) Config {
	c := config(id, name)
	c.Insecure = false
	c.CertFile, c.KeyFile, c.CAFile = filepath.Join(dir, "cert"), filepath.Join(dir, "key"), filepath.Join(dir, "ca")
	return c
}

// TestTLS: nodes whose certificates name them, of one cluster and authority, reach each
// other in every way.
func TestTLS(t *testing.T) {
	ca, dirA, dirB := newAuthority(t), t.TempDir(), t.TempDir()
	ca.issue(t, dirA, "a", testCluster, 2)
	ca.issue(t, dirB, "b", "9f86d081884c7d65", 3) // the cluster's id itself
	a, b := start(t, secureConfig(1, "a", dirA), newHandler()), start(t, secureConfig(2, "b", dirB), newHandler())
	meet(a, b)
	sendUntil(t, a, b)
	sendUntil(t, b, a)
	if _, err := a.Forward(within(t), 2, grant(1)); err != nil {
		t.Error(err)
	}
	if _, err := a.State(within(t), b.Address()); err != nil {
		t.Error(err)
	}
	plain := start(t, config(3, "c"), newHandler())
	if _, err := plain.State(within(t), a.Address()); err == nil {
		t.Error("a node without TLS is accepted")
	}
	if _, err := a.State(within(t), plain.Address()); err == nil {
		t.Error("a node without TLS is believed")
	}
}

// TestTLSRefused: a certificate that is wrong on one side, whichever connects.
func TestTLSRefused(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	good := t.TempDir()
	ca.issue(t, good, "a", testCluster, 2)
	for name, c := range map[string]struct {
		by            *authority
		name, cluster string
		want          string
	}{
		"authority": {other, "b", testCluster, ""},
		"cluster":   {ca, "b", "another", `of cluster "others, another"`},
		"name":      {ca, "c", testCluster, `is node "c"'s, not node "b"'s`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.by.issue(t, dir, c.name, c.cluster, 3)
			if err := os.WriteFile(filepath.Join(dir, "ca"), pemOf(ca), 0o600); err != nil {
				t.Fatal(err)
			}
			a, b := start(t, secureConfig(1, "a", good), newHandler()), start(t, secureConfig(2, "b", dir), newHandler())
			meet(a, b)
			_, err := b.Forward(within(t), 1, grant(1))
			wantErrors(t, "the wrong one connects", err, ErrNotSent, ErrRefused)
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("it is told: %v", err)
			}
			_, err = a.Forward(within(t), 2, grant(1))
			wantErrors(t, "the right one connects", err, ErrNotSent, ErrRefused)
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("it finds: %v", err)
			}
		})
	}
}

func pemOf(a *authority) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// TestVersions: nothing below TLS 1.2.
func TestVersions(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	ca.issue(t, dir, "a", testCluster, 2)
	a := start(t, secureConfig(1, "a", dir), newHandler())
	own, _ := a.certs.current()
	conn, err := tls.Dial("tcp", a.Address(), &tls.Config{
		MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true, Certificates: []tls.Certificate{*own},
	})
	if err == nil {
		_ = conn.Close()
		t.Fatal("TLS 1.1 is spoken")
	}
}

// TestReload: new files are used by the next connection; broken ones are not, and are
// logged once.
func TestReload(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	ca.issue(t, dir, "a", testCluster, 2)
	a := start(t, secureConfig(1, "a", dir), newHandler())
	now := time.Now()
	certs, err := loadCertificates(a.cfg, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		now = now.Add(reload.Interval)
		own, _ := certs.current()
		return own.Leaf.SerialNumber.Int64()
	}
	if got := serial(); got != 2 {
		t.Fatalf("certificate %d", got)
	}
	ca.issue(t, dir, "a", testCluster, 1_000_000_007) // of another size
	if own, _ := certs.current(); own.Leaf.SerialNumber.Int64() != 2 {
		t.Error("the files are looked at all the time")
	}
	if got := serial(); got != 1_000_000_007 {
		t.Errorf("certificate %d", got)
	}
	a.waitLog(t, "peer certificate reloaded")
	if err := os.WriteFile(a.cfg.KeyFile, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := serial(); got != 1_000_000_007 {
			t.Errorf("certificate %d", got)
		}
	}
	if err := os.Remove(a.cfg.CAFile); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 1_000_000_007 {
		t.Errorf("certificate %d", got)
	}
	if n := len(a.logs.errors("peer certificate not reloaded, the one in force is kept")); n != 2 {
		t.Errorf("logged %d times", n)
	}
	if _, err := loadCertificates(a.cfg, time.Now); err == nil {
		t.Error("broken files are loaded")
	}
}

// TestReloadInForce: a running node changes its authority, on both sides.
func TestReloadInForce(t *testing.T) {
	before, after, dirA, dirB := newAuthority(t), newAuthority(t), t.TempDir(), t.TempDir()
	before.issue(t, dirA, "a", testCluster, 2)
	after.issue(t, dirB, "b", testCluster, 3)
	a, b := start(t, secureConfig(1, "a", dirA), newHandler()), start(t, secureConfig(2, "b", dirB), newHandler())
	if _, err := a.State(within(t), b.Address()); !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	if _, err := b.State(within(t), a.Address()); !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	after.issue(t, dirA, "a", testCluster, 1_000_000_007)
	a.certs.mu.Lock()
	a.certs.files.Forget() // as if the last look was long ago
	a.certs.mu.Unlock()
	if _, err := a.State(within(t), b.Address()); err != nil {
		t.Error(err)
	}
	if _, err := b.State(within(t), a.Address()); err != nil {
		t.Error(err)
	}
}
