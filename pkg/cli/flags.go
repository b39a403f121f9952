package cli

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/node"
)

const configFlagName = "config"

// Categories of the help text.
const (
	categoryData    = "Data"
	categoryListen  = "Listening"
	categoryTLS     = "TLS"
	categoryAPI     = "API"
	categoryCompact = "Compaction"
	categoryObjects = "Object storage"
	categoryS3      = "Object storage on S3"
	categoryCluster = "Cluster"
	categoryLog     = "Logging"
)

// settings is what the flags of the server command fill in.
type settings struct {
	node      node.Config
	logFormat string
	debug     bool
	file      configFile
}

// spec is what flags of every type have in common.
type spec struct {
	name     string
	category string
	usage    string
	fallback string // text of the default, where the value does not say it
	alias    string
	kine     bool // kine has a flag of this name, and so an environment variable
	list     bool // in a file the value may be a list
}

// flagSet collects flags whose values come from all the sources.
type flagSet struct {
	file  *configFile
	flags []cli.Flag
}

// newFlagSet returns a set that has the flag of the file.
func newFlagSet(file *configFile) *flagSet {
	file.known = make(map[string]bool)
	f := &flagSet{file: file}
	f.flags = append(f.flags, &cli.StringFlag{
		Name: configFlagName, Usage: "YAML `FILE` with values for these flags", TakesFile: true,
		Destination: &file.flagPath, Sources: cli.NewValueSourceChain(envSource(envName(kinsyPrefix, configFlagName))),
	})
	return f
}

// newServerFlags returns the settings at their defaults and the flags that change them.
func newServerFlags() (*settings, []cli.Flag) {
	s := &settings{node: node.DefaultConfig(false), logFormat: logPlain}
	set := newFlagSet(&s.file)
	set.addData(&s.node)
	set.addListen(&s.node)
	set.addTLS(&s.node)
	set.addAPI(&s.node)
	set.addCompaction(&s.node)
	set.addObjectStore(&s.node.ObjectStore)
	set.addUploads(&s.node)
	set.addCluster(&s.node)
	set.addLog(s)
	return s, set.flags
}

func (f *flagSet) addData(c *node.Config) {
	f.boolean(&c.Dev, spec{name: "dev", category: categoryData,
		usage: "a node for a laptop or a test: data in " + node.DefaultDevDataDir + ", --api " + node.APIEtcd + ", REST on " + node.DefaultDevHTTPAddress +
			", metrics on " + node.DefaultDevMetricsBindAddress})
	f.text(&c.DataDir, spec{name: "data-dir", category: categoryData, fallback: node.DefaultDataDir + ", with --dev " + node.DefaultDevDataDir,
		usage: "`FOLDER` of everything the node keeps; one process at a time may use it"})
	f.text(&c.Endpoint, spec{name: "endpoint", category: categoryData, kine: true, fallback: "sqlite",
		usage: "datastore: sqlite for a file in the data folder, or sqlite://PATH; this version has no other"})
	f.duration(&c.SlowSQLThreshold, spec{name: "slow-sql-threshold", category: categoryData, kine: true,
		usage: "log statements that take longer; 0 or less logs none"})
	f.size(&c.ValueCacheBytes, spec{name: "value-cache-bytes", category: categoryData,
		usage: "memory for values in bytes; 0 reads every value from the log"})
}

func (f *flagSet) addListen(c *node.Config) {
	f.text(&c.ListenAddress, spec{name: "listen-address", category: categoryListen, kine: true, list: true,
		usage: "where clients connect: HOST:PORT or unix://PATH, several separated by commas"})
	f.text(&c.AdvertiseClientURLs, spec{name: "advertise-client-urls", category: categoryListen, list: true, fallback: "from the listen addresses",
		usage: "URLs told to clients that ask for the members, separated by commas"})
	f.text(&c.HTTPAddress, spec{name: "http-address", category: categoryListen, list: true, fallback: "none, with --dev " + node.DefaultDevHTTPAddress,
		usage: "where REST and WebSocket clients connect, written as --listen-address; 0: nowhere"})
	f.text(&c.CORS, spec{name: "cors", category: categoryListen, list: true,
		usage: "origins whose web pages may use --http-address, such as https://example.com, separated by commas; * for all"})
	f.text(&c.MetricsBindAddress, spec{name: "metrics-bind-address", category: categoryListen, kine: true,
		fallback: node.DefaultMetricsBindAddress + ", with --dev " + node.DefaultDevMetricsBindAddress,
		usage:    "HOST:PORT of /metrics, /livez, /readyz, /health and /version; 0 turns them off"})
	f.boolean(&c.EnablePprof, spec{name: "metrics-enable-profiling", alias: "enable-pprof", category: categoryListen, kine: true,
		usage: "serve /debug/pprof/ on the metrics address"})
	f.boolean(&c.AllowInsecureListen, spec{name: "allow-insecure-listen", category: categoryListen,
		usage: "listen beyond loopback without TLS"})
}

func (f *flagSet) addTLS(c *node.Config) {
	f.text(&c.CertFile, spec{name: "server-cert-file", category: categoryTLS, kine: true,
		usage: "PEM `FILE` with the certificate of every listener; read again when it changes"})
	f.text(&c.KeyFile, spec{name: "server-key-file", category: categoryTLS, kine: true,
		usage: "PEM `FILE` with the key of the certificate"})
	f.text(&c.TrustedCAFile, spec{name: "trusted-ca-file", category: categoryTLS, kine: true,
		usage: "PEM `FILE` with the authorities of client certificates, which are then required"})
	f.boolean(&c.MetricsIgnoreTLS, spec{name: "metrics-ignore-tls-config", category: categoryTLS, kine: true,
		usage: "serve the metrics address without TLS"})
}

func (f *flagSet) addAPI(c *node.Config) {
	f.text(&c.API, spec{name: "api", category: categoryAPI, fallback: node.APINetsy + ", with --dev " + node.APIEtcd,
		usage: "profile: " + node.APINetsy + " for what kube-apiserver calls, " + node.APIEtcd + " for everything"})
	f.text(&c.Name, spec{name: "name", category: categoryAPI, fallback: "the host's name",
		usage: "the node's name in the list of members"})
	f.text(&c.EmulatedEtcdVersion, spec{name: "emulated-etcd-version", category: categoryAPI, kine: true,
		usage: "etcd version told to clients, which decide by it what they use"})
	f.size(&c.MaxRequestBytes, spec{name: "max-request-bytes", category: categoryAPI,
		usage: "size of the largest request in bytes"})
	f.duration(&c.NotifyInterval, spec{name: "watch-progress-notify-interval", category: categoryAPI, kine: true,
		usage: "time between progress notifications of a watch; 0 sends none"})
}

func (f *flagSet) addCompaction(c *node.Config) {
	f.duration(&c.CompactInterval, spec{name: "compact-interval", category: categoryCompact, kine: true,
		usage: "time between automatic compactions, and so the age of the history that is kept; 0 turns them off"})
	f.integer(&c.CompactIntervalJitter, spec{name: "compact-interval-jitter", category: categoryCompact, kine: true,
		usage: "spread of the interval in percent either way, 0 to 99"})
	f.duration(&c.CompactTimeout, spec{name: "compact-timeout", category: categoryCompact, kine: true,
		usage: "limit of one automatic compaction"})
	f.size(&c.CompactMinRetain, spec{name: "compact-min-retain", category: categoryCompact, kine: true,
		usage: "newest revisions that automatic compaction keeps"})
	f.size(&c.CompactBatchSize, spec{name: "compact-batch-size", category: categoryCompact, kine: true,
		usage: "rows deleted in one step"})
}

func (f *flagSet) addLog(s *settings) {
	f.text(&s.logFormat, spec{name: "log-format", category: categoryLog, kine: true,
		usage: "format of the log: " + logPlain + " or " + logJSON})
	f.boolean(&s.debug, spec{name: "debug", category: categoryLog, kine: true,
		usage: "log details too"})
}

func (f *flagSet) text(to *string, s spec) {
	f.flags = append(f.flags, &cli.StringFlag{Name: s.name, Aliases: s.aliases(), Category: s.category, Usage: s.usage,
		Value: *to, DefaultText: s.fallback, Destination: to, Sources: f.sources(s)})
}

func (f *flagSet) boolean(to *bool, s spec) {
	f.flags = append(f.flags, &cli.BoolFlag{Name: s.name, Aliases: s.aliases(), Category: s.category, Usage: s.usage,
		Value: *to, HideDefault: true, Destination: to, Sources: f.sources(s)})
}

func (f *flagSet) integer(to *int, s spec) {
	f.flags = append(f.flags, &cli.IntFlag{Name: s.name, Category: s.category, Usage: s.usage,
		Value: *to, Destination: to, Sources: f.sources(s)})
}

func (f *flagSet) size(to *int64, s spec) {
	f.flags = append(f.flags, &cli.Int64Flag{Name: s.name, Category: s.category, Usage: s.usage,
		Value: *to, Destination: to, Sources: f.sources(s)})
}

func (f *flagSet) duration(to *time.Duration, s spec) {
	f.flags = append(f.flags, &cli.DurationFlag{Name: s.name, Category: s.category, Usage: s.usage,
		Value: *to, Destination: to, Sources: f.sources(s)})
}

func (s spec) aliases() []string {
	if s.alias == "" {
		return nil
	}
	return []string{s.alias}
}

// sources returns where a flag's value comes from, the first first, and makes its names known to the file.
func (f *flagSet) sources(s spec) cli.ValueSourceChain {
	names := append([]string{s.name}, s.aliases()...)
	chain := cli.NewValueSourceChain()
	for _, name := range names {
		chain.Chain = append(chain.Chain, envSource(envName(kinsyPrefix, name)))
	}
	if s.kine {
		chain.Chain = append(chain.Chain, envSource(envName(kinePrefix, s.name)))
	}
	for _, name := range names {
		f.file.known[name] = s.list
		chain.Chain = append(chain.Chain, fileSource{file: f.file, key: name})
	}
	return chain
}

// config returns the node's configuration: the flags' values, with the defaults of --dev for those that were not given.
func (s *settings) config(cmd *cli.Command) (node.Config, error) {
	if err := s.file.load(); err != nil {
		return node.Config{}, err
	}
	c := s.node
	if c.Dev {
		dev := node.DefaultConfig(true)
		if !cmd.IsSet("api") {
			c.API = dev.API
		}
		if !cmd.IsSet("metrics-bind-address") {
			c.MetricsBindAddress = dev.MetricsBindAddress
		}
		if !cmd.IsSet("http-address") {
			c.HTTPAddress = dev.HTTPAddress
		}
	}
	c.Version = Version()
	if s.logFormat != logPlain && s.logFormat != logJSON {
		return node.Config{}, fmt.Errorf("--log-format must be %s or %s, not %q", logPlain, logJSON, s.logFormat)
	}
	return c, c.Validate()
}
