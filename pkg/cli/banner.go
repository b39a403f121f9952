package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/kinsy/kinsy/pkg/node"
)

// banner is what --dev prints once the node serves.
type banner struct {
	version string
	api     string
	urls    []string
	rest    []string
	metrics string // URL of the metrics listener, empty for none
	data    string
}

func bannerOf(cfg node.Config, n *node.Node) banner {
	b := banner{version: cfg.Version, api: cfg.API, urls: n.URLs(), rest: n.HTTPURLs(), data: cfg.LogPath()}
	if abs, err := filepath.Abs(b.data); err == nil {
		b.data = abs
	}
	if addr := n.MetricsAddr(); addr != "" {
		b.metrics = "http://" + addr
		if cfg.TLS() && !cfg.MetricsIgnoreTLS {
			b.metrics = "https://" + addr
		}
	}
	return b
}

// printBanner writes where the node listens, where its data is and a command to try, each on a line.
func printBanner(w io.Writer, b banner, colour bool) {
	paint := func(code, s string) string {
		if !colour {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	line := func(name, value string) {
		fmt.Fprintf(w, "  %s  %s\n", paint("2", fmt.Sprintf("%-7s", name)), value)
	}
	fmt.Fprintf(w, "\n%s %s is ready\n", paint("1;32", "kinsy"), b.version)
	line("etcd", strings.Join(b.urls, ", ")+" (--api "+b.api+")")
	if len(b.rest) > 0 {
		line("rest", strings.Join(b.rest, ", "))
	}
	if b.metrics != "" {
		line("metrics", b.metrics+"/metrics")
	}
	line("data", b.data)
	line("try", paint("1", "etcdctl --endpoints "+b.urls[0]+" put hello world"))
	if b.metrics != "" {
		line("", paint("1", "curl "+b.metrics+"/readyz?verbose"))
	}
	fmt.Fprintln(w)
}
