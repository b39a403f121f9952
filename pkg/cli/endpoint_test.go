package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// writeCertificate makes a certificate that is its own authority, good for server and client, and its key.
func writeCertificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert", "CERTIFICATE", cert), write("key", "PRIVATE KEY", private)
}

func TestEndpointTLS(t *testing.T) {
	clearEnvironment(t)
	cert, key := writeCertificate(t)
	dir := t.TempDir()
	open := nodeConfig(filepath.Join(dir, "open"), "")
	open.CertFile, open.KeyFile = cert, key
	withNode(t, open, func(address string, _ *grpc.ClientConn) {
		export := []string{"export", "--format", "json", "--endpoint", "https://" + address}
		done(t, append(export, "--cacert", cert)...)
		done(t, append(export, "--insecure-skip-tls-verify")...)
		refused(t, "certificate", export...)
		refused(t, "the file has no certificate", append(export, "--cacert", key)...)
		refused(t, "is plain text, and TLS is configured", "export", "--format", "json", "--endpoint", "http://"+address, "--cacert", cert)
	})
	closed := nodeConfig(filepath.Join(dir, "closed"), "")
	closed.CertFile, closed.KeyFile, closed.TrustedCAFile = cert, key, cert
	withNode(t, closed, func(address string, _ *grpc.ClientConn) {
		into := []string{"--from-endpoint", address, "--from-cacert", cert}
		refused(t, "fetch: ", append([]string{"import", "--data-dir", filepath.Join(dir, "a")}, into...)...)
		done(t, append([]string{"import", "--data-dir", filepath.Join(dir, "a"), "--from-cert", cert, "--from-key", key}, into...)...)
	})
}

func TestPasswordIsNotShown(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("KINSY_PASSWORD", "very-secret")
	withNode(t, nodeConfig(t.TempDir(), ""), func(address string, _ *grpc.ClientConn) {
		for _, args := range [][]string{{"--endpoint", address, "--user", "u"}, {"--endpoint", address}, {"--help"}} {
			_, stdout, stderr := kinsy(append([]string{"export", "--format", "json"}, args...)...)
			if strings.Contains(stdout+stderr, "very-secret") {
				t.Errorf("%v: %s%s", args, stdout, stderr)
			}
		}
		refused(t, "log in to "+address+` as "u"`, "export", "--format", "json", "--endpoint", address, "--user", "u")
	})
}
