package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/node"
)

// clearEnvironment removes the variables that kinsy reads for the time of a test.
func clearEnvironment(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, kinsyPrefix) || strings.HasPrefix(name, kinePrefix) {
			t.Setenv(name, "")
		}
	}
}

// parse runs the command line with a runner that only keeps the configuration.
func parse(t *testing.T, args ...string) (got node.Config, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRoot(&out, &errs)
	root.Commands[0] = newServerCommand(func(_ context.Context, cfg node.Config, _ io.Writer) error {
		got = cfg
		return nil
	})
	err = root.Run(t.Context(), withDefaultCommand(append([]string{"kinsy"}, args...)))
	return got, errs.String(), err
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kinsy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	const file = "compact-interval: 1m\napi: etcd\ndebug: true\ncompact-min-retain: 1\n"
	tests := []struct {
		name          string
		args          []string
		kinsy, kine   string // values of KINSY_COMPACT_INTERVAL and KINE_COMPACT_INTERVAL
		file, fileEnv bool
		want          time.Duration
	}{
		{name: "default", want: node.DefaultCompactInterval},
		{name: "file", file: true, want: time.Minute},
		{name: "file by environment", fileEnv: true, want: time.Minute},
		{name: "kine over file", file: true, kine: "2m", want: 2 * time.Minute},
		{name: "kinsy over kine", file: true, kine: "2m", kinsy: "3m", want: 3 * time.Minute},
		{name: "flag over all", file: true, kine: "2m", kinsy: "3m", args: []string{"--compact-interval", "4m"}, want: 4 * time.Minute},
		{name: "zero is a value", file: true, kinsy: "0", want: 0},
		{name: "empty is none", file: true, kine: "", kinsy: "", want: time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clearEnvironment(t)
			t.Setenv("KINSY_COMPACT_INTERVAL", tt.kinsy)
			t.Setenv("KINE_COMPACT_INTERVAL", tt.kine)
			args := append([]string{"server"}, tt.args...)
			if tt.file {
				args = append(args, "--config", writeConfig(t, file))
			}
			if tt.fileEnv {
				t.Setenv("KINSY_CONFIG", writeConfig(t, file))
			}
			cfg, _, err := parse(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			if cfg.CompactInterval != tt.want {
				t.Errorf("interval %v, want %v", cfg.CompactInterval, tt.want)
			}
			if (tt.file || tt.fileEnv) && (cfg.API != node.APIEtcd || cfg.CompactMinRetain != 1 || cfg.Logger.Level != logrus.DebugLevel) {
				t.Errorf("values of the file are missing: %+v", cfg)
			}
		})
	}
}

func TestEmptyStringVariableIsNone(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("KINSY_LISTEN_ADDRESS", "")
	t.Setenv("KINE_LISTEN_ADDRESS", "127.0.0.1:9")
	if cfg, _, err := parse(t, "server"); err != nil || cfg.ListenAddress != "127.0.0.1:9" {
		t.Errorf("%q, %v", cfg.ListenAddress, err)
	}
}

func TestDevelopmentDefaults(t *testing.T) {
	clearEnvironment(t)
	for _, args := range [][]string{{"--dev"}, {"server", "--dev"}, {"--dev=true"}} {
		cfg, _, err := parse(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		if !cfg.Dev || cfg.API != node.APIEtcd || cfg.MetricsBindAddress != node.DefaultDevMetricsBindAddress || cfg.HTTPAddress != node.DefaultDevHTTPAddress ||
			cfg.ListenAddress != node.DefaultListenAddress || cfg.DataFolder() != node.DefaultDevDataDir {
			t.Errorf("%v: %+v", args, cfg)
		}
	}
	t.Setenv("KINE_METRICS_BIND_ADDRESS", "0")
	cfg, _, err := parse(t, "--dev", "--api", "netsy", "--data-dir", "d", "--http-address", "0")
	if err != nil || cfg.API != node.APINetsy || cfg.MetricsBindAddress != "0" || cfg.DataFolder() != "d" || cfg.HTTPAddress != node.HTTPOff {
		t.Errorf("what is given must win over --dev: %+v, %v", cfg, err)
	}
}

// TestEveryFlagHasItsVariables gives each flag a value by KINSY_NAME and, where kine has the flag, by KINE_NAME.
func TestEveryFlagHasItsVariables(t *testing.T) {
	kine := []string{"listen-address", "endpoint", "log-format", "metrics-bind-address", "server-cert-file", "server-key-file",
		"trusted-ca-file", "slow-sql-threshold", "metrics-enable-profiling", "metrics-ignore-tls-config",
		"watch-progress-notify-interval", "emulated-etcd-version", "compact-interval", "compact-interval-jitter",
		"compact-timeout", "compact-min-retain", "compact-batch-size", "debug", "s3-endpoint"}
	_, flags := newServerFlags()
	seen := 0
	for _, f := range flags {
		env, ok := f.(interface{ GetEnvVars() []string })
		if !ok {
			t.Fatalf("%s has no environment", f.Names()[0])
		}
		name := f.Names()[0]
		if !slices.Contains(env.GetEnvVars(), envName(kinsyPrefix, name)) {
			t.Errorf("--%s lacks its KINSY_ variable", name)
		}
		if has := slices.Contains(env.GetEnvVars(), envName(kinePrefix, name)); has != slices.Contains(kine, name) {
			t.Errorf("--%s: KINE_ variable %v", name, has)
		} else if has {
			seen++
		}
	}
	if seen != len(kine) {
		t.Errorf("%d of %d flags of kine are there", seen, len(kine))
	}
}

func TestStrictFile(t *testing.T) {
	clearEnvironment(t)
	tests := []struct {
		name, text, want string // want follows the file's path
	}{
		{"unknown key", "api: etcd\n\nlisten: x\n", `:3: unknown key "listen"`},
		{"config itself", "config: x\n", `:1: unknown key "config"`},
		{"two errors", "a: 1\nb: 2\n", `:1: unknown key "a"`},
		{"twice", "api: etcd\napi: netsy\n", `:2: "api" is given twice`},
		{"no value", "api:\n", `:1: "api" has no value`},
		{"nested", "api:\n  name: etcd\n", `:1: "api" must be a single value`},
		{"list", "api: [etcd]\n", `:1: "api" must be a single value`},
		{"list of lists", "listen-address: [[a]]\n", `:1: "listen-address" must be a list of single values`},
		{"not a mapping", "- api\n", `:1: the file must be a mapping`},
		{"two documents", "api: etcd\n---\napi: etcd\n", `: the file holds more than one document`},
		{"not YAML", "api: [\n", `: yaml:`},
		{"wrong type", "# a comment\ncompact-interval: soon\n", `:2 for flag compact-interval`},
		{"wrong number", "compact-batch-size: 1.5\n", `:1 for flag compact-batch-size`},
		{"wrong bool", "debug: yes\n", `:1 for flag debug`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeConfig(t, tt.text)
			_, _, err := parse(t, "server", "--config", path)
			if err == nil || !strings.Contains(err.Error(), path+tt.want) {
				t.Errorf("got  %v\nwant ...%s", err, tt.want)
			}
		})
	}
}

func TestFileForms(t *testing.T) {
	clearEnvironment(t)
	for text, want := range map[string]string{
		"":            node.DefaultListenAddress,
		"# nothing\n": node.DefaultListenAddress,
		"listen-address: \"[::1]:1,127.0.0.1:1\"\n":     "[::1]:1,127.0.0.1:1",
		"listen-address:\n- '[::1]:1'\n- 127.0.0.1:1\n": "[::1]:1,127.0.0.1:1",
	} {
		cfg, _, err := parse(t, "--config", writeConfig(t, text))
		if err != nil || cfg.ListenAddress != want {
			t.Errorf("%q: %q, %v", text, cfg.ListenAddress, err)
		}
	}
	if cfg, _, err := parse(t, "--config", writeConfig(t, "enable-pprof: true\n")); err != nil || !cfg.EnablePprof {
		t.Errorf("alias: %v", err)
	}
	if _, _, err := parse(t, "--config", "/does/not/exist"); err == nil || !strings.Contains(err.Error(), "read configuration") {
		t.Errorf("missing file: %v", err)
	}
}

// TestExampleFile holds the example to the flags and their defaults.
func TestExampleFile(t *testing.T) {
	clearEnvironment(t)
	fromFile, _, err := parse(t, "--config", "kinsy.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defaults, _, err := parse(t, "server")
	if err != nil {
		t.Fatal(err)
	}
	if fromFile.DataFolder() != defaults.DataFolder() || fromFile.LogPath() != defaults.LogPath() {
		t.Errorf("data folder %s", fromFile.DataFolder())
	}
	fromFile.Logger, defaults.Logger = nil, nil
	fromFile.DataDir, fromFile.Endpoint = "", ""
	if !reflect.DeepEqual(fromFile, defaults) {
		t.Errorf("the example differs from the defaults:\n%+v\n%+v", fromFile, defaults)
	}
	text, err := os.ReadFile("kinsy.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, flags := newServerFlags()
	for _, f := range flags {
		if name := f.Names()[0]; name != configFlagName && !strings.Contains(string(text), name+":") {
			t.Errorf("the example lacks %s", name)
		}
	}
}

func TestRefusals(t *testing.T) {
	clearEnvironment(t)
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--endpoint", "postgres://u:p@h/db", "--dev"}, "--endpoint postgres:// is not supported"},
		{[]string{"server", "--listen-address", ":2379"}, "--allow-insecure-listen"},
		{[]string{"server", "extra"}, `takes flags only, not "extra"`},
		{[]string{"server", "--no-such"}, "-no-such; see kinsy server --help"},
		{[]string{"--log-format", "xml"}, `--log-format must be plain or json, not "xml"`},
		{[]string{"serve"}, `there is no command "serve"`},
		{[]string{"--compact-interval", "soon"}, "see kinsy server --help"},
	}
	for _, tt := range tests {
		if _, _, err := parse(t, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v", tt.args, err)
		}
	}
}

func TestUnknownVariablesAreNamed(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("KINSY_LISTEN_ADDRES", "127.0.0.1:1")
	t.Setenv("KINSY_SERVICE_HOST", "10.0.0.1")
	_, stderr, err := parse(t, "--dev")
	if err != nil || !strings.Contains(stderr, "KINSY_LISTEN_ADDRES") || strings.Contains(stderr, "KINSY_SERVICE_HOST") {
		t.Errorf("%v, %s", err, stderr)
	}
}
