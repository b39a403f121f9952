package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// selfSigned returns a certificate for localhost and a pool that trusts it.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// Two listeners of one server, both with TLS: a client with TLS is answered, one
// without is not.
func TestTransportCredentials(t *testing.T) {
	cert, pool := selfSigned(t)
	cfg := testConfig(newFakeEngine(), ProfileNetsy)
	cfg.TransportCredentials = credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}})
	s := New(cfg)
	served := make(chan error, 2)
	var addrs []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, l.Addr().String())
		go func() { served <- s.Serve(l) }()
	}
	ask := func(addr string, creds credentials.TransportCredentials) error {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = pb.NewKVClient(conn).Range(testContext(t), rangeOf("k"))
		return err
	}
	for _, addr := range addrs {
		if err := ask(addr, credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "localhost"})); err != nil {
			t.Error(err)
		}
		if err := ask(addr, insecure.NewCredentials()); status.Code(err) != codes.Unavailable {
			t.Errorf("without TLS: %v", err)
		}
	}
	if err := s.GracefulStop(testContext(t)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}
