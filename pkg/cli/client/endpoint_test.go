package client

import (
	"errors"
	"strings"
	"testing"
)

func TestParseEndpoints(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:2379":                    "dns:///127.0.0.1:2379",
		" a:1 , http://b:2/,,https://c:3 ":  "dns:///a:1 dns:///b:2 dns:///c:3+tls",
		":2379":                             "dns:///127.0.0.1:2379",
		"unix:///run/kinsy.sock":            "unix:/run/kinsy.sock",
		"unixs:///run/kinsy.sock":           "unix:/run/kinsy.sock+tls",
		"http://[::1]:2379,https://[::1]:1": "dns:///%5B::1%5D:2379 dns:///%5B::1%5D:1+tls",
	} {
		all, err := parseEndpoints(text, false)
		var got []string
		for _, e := range all {
			if e.tls {
				e.target += "+tls"
			}
			got = append(got, e.target)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", " , ", "a", "a:", "ftp://a:1", "a:1/b", "user@a:1", "unix://", "http://a"} {
		if all, err := parseEndpoints(text, false); !errors.Is(err, ErrUsage) {
			t.Errorf("%q: %v, %v", text, all, err)
		}
	}
	if all, err := parseEndpoints("a:1", true); err != nil || !all[0].tls {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := parseEndpoints("http://a:1", true); !errors.Is(err, ErrUsage) {
		t.Errorf("plain text although there is a certificate: %v", err)
	}
}

func TestConnectionText(t *testing.T) {
	for in, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`:    "dial tcp 127.0.0.1:1: connect: connection refused",
		`connection error: desc = "transport: authentication handshake failed: tls: first record does not look like TLS"`: "tls: first record does not look like TLS",
		`connection error: desc = "error reading server preface: EOF"`:                                                    "error reading server preface: EOF",
	} {
		if got := connectionText(in); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
