package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/node"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// parseStore runs a command that has the flags of object storage alone.
func parseStore(t *testing.T, args ...string) (got object.Config, err error) {
	t.Helper()
	settings, flags := newStoreFlags()
	command := &cli.Command{
		Name: "store", Flags: flags, Writer: io.Discard, ErrWriter: io.Discard,
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
		Action:         func(context.Context, *cli.Command) error { got, err = settings.config(); return err },
	}
	err = command.Run(t.Context(), append([]string{"store"}, args...))
	return got, err
}

// storeValues gives every flag of object storage a value.
func storeValues() (values map[string]string, want object.Config) {
	values = map[string]string{
		"object-store": "s3://bucket/prefix", "object-store-key-file": "keys", "object-store-timeout": "3s",
		"s3-endpoint": "http://127.0.0.1:1", "s3-region": "r", "s3-addressing-style": "virtual", "s3-access-key": "id-of-the-key",
		"s3-secret-key": "very-secret", "s3-session-token": "secret-too", "s3-ca-bundle": "ca", "s3-sse": "aws:kms",
		"s3-sse-kms-key-id": "kms", "s3-storage-class": "STANDARD_IA",
	}
	return values, object.Config{
		URL: "s3://bucket/prefix", KeyFile: "keys", Timeout: 3 * time.Second,
		S3: object.S3Config{
			Endpoint: "http://127.0.0.1:1", Region: "r", AddressingStyle: "virtual", AccessKey: "id-of-the-key",
			SecretKey: "very-secret", SessionToken: "secret-too", CABundle: "ca", SSE: "aws:kms", SSEKMSKeyID: "kms", StorageClass: "STANDARD_IA",
		},
	}
}

// TestStoreFlags gives them on the command line, by variables and in a file, to the server and to other commands.
func TestStoreFlags(t *testing.T) {
	values, want := storeValues()
	var args, lines []string
	for name, value := range values {
		args = append(args, "--"+name, value)
		lines = append(lines, fmt.Sprintf("%s: %q\n", name, value))
	}
	check := func(t *testing.T, args ...string) {
		t.Helper()
		cfg, _, err := parse(t, append([]string{"server"}, args...)...)
		if err != nil || cfg.ObjectStore != want {
			t.Errorf("server has %#v, %v", cfg.ObjectStore, err)
		}
		if got, err := parseStore(t, args...); err != nil || got != want {
			t.Errorf("store has %#v, %v", got, err)
		}
	}
	t.Run("flags", func(t *testing.T) {
		clearEnvironment(t)
		check(t, args...)
	})
	t.Run("file", func(t *testing.T) {
		clearEnvironment(t)
		check(t, "--config", writeConfig(t, strings.Join(lines, "")+"api: etcd\nlisten-address: [127.0.0.1:1]\n"))
	})
	t.Run("variables", func(t *testing.T) {
		clearEnvironment(t)
		for name, value := range values {
			t.Setenv(envName(kinsyPrefix, name), value)
		}
		check(t)
	})
	t.Run("variable of kine", func(t *testing.T) {
		clearEnvironment(t)
		t.Setenv("KINE_S3_ENDPOINT", "http://127.0.0.1:9")
		if got, err := parseStore(t, "--object-store", "s3://bucket"); err != nil || got.S3.Endpoint != "http://127.0.0.1:9" {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestStoreFlagsRefuse(t *testing.T) {
	clearEnvironment(t)
	for want, args := range map[string][]string{
		"--object-store must be given":                 {},
		"--object-store must begin with s3://":         {"--object-store", "ftp://x"},
		"--s3-access-key and --s3-secret-key":          {"--object-store", "s3://bucket", "--s3-secret-key", "very-secret"},
		`:1: unknown key "objectstore"`:                {"--config", writeConfig(t, "objectstore: s3://bucket\n")},
		":1 for flag object-store-timeout":             {"--config", writeConfig(t, "object-store-timeout: soon\n")},
		"not defined: -s3-secret":                      {"--s3-secret", "very-secret"},
		"--s3-endpoint must not hold credentials; use": {"--object-store", "s3://bucket", "--s3-endpoint", "http://u:very-secret@h"},
	} {
		if _, err := parseStore(t, args...); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "very-secret") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestStoreFileOfTheServer(t *testing.T) {
	clearEnvironment(t)
	got, err := parseStore(t, "--config", "kinsy.example.yaml", "--object-store", "file:///var/x")
	if err != nil || got != (object.Config{URL: "file:///var/x", Timeout: node.DefaultObjectStoreTimeout}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestUploadFlags(t *testing.T) {
	clearEnvironment(t)
	cfg, _, err := parse(t, "--object-store", "file:///var/x", "--quorum", "0", "--upload-interval", "1s", "--upload-bytes", "9", "--snapshot-rows", "8",
		"--snapshot-interval", "2h", "--snapshot-retention", "7", "--snapshot-retention-time", "3h")
	if err != nil || cfg.Quorum != node.QuorumObjectStore || cfg.UploadInterval != time.Second || cfg.UploadBytes != 9 || cfg.SnapshotRows != 8 ||
		cfg.SnapshotInterval != 2*time.Hour || cfg.SnapshotRetention != 7 || cfg.SnapshotRetentionTime != 3*time.Hour {
		t.Errorf("%+v, %v", cfg, err)
	}
	for _, args := range [][]string{{"--quorum", "-1"}, {"--quorum=-1"}, {}} {
		if cfg, _, err := parse(t, append([]string{"server"}, args...)...); err != nil || cfg.Quorum != node.QuorumLocal {
			t.Errorf("%v: %d, %v", args, cfg.Quorum, err)
		}
	}
}

// TestSecretsAreNotShown looks for credentials in the help, in errors, in messages and in the configuration's text.
func TestSecretsAreNotShown(t *testing.T) {
	values, _ := storeValues()
	secrets := []string{values["s3-access-key"], values["s3-secret-key"], values["s3-session-token"]}
	clearEnvironment(t)
	for _, name := range []string{"s3-access-key", "s3-secret-key", "s3-session-token"} {
		t.Setenv(envName(kinsyPrefix, name), values[name])
	}
	for _, args := range [][]string{
		{"server", "--help"}, {"--help"}, {"server", "--quorum", "x"}, {"server", "--no-such"}, {"--object-store", "s3://bucket", "--quorum", "7"},
		{"server"}, {"--object-store", "s3://bucket"}, {"--config", writeConfig(t, "s3-secret-key: [very-secret]\n")},
		{"--config", writeConfig(t, "s3-secret-key: \"very-secret\n")},
	} {
		var out bytes.Buffer
		root := newRoot(&out, &out)
		for i, c := range root.Commands {
			if c.Name == serverCommandName {
				root.Commands[i] = newServerCommand(func(_ context.Context, cfg node.Config, _ io.Writer) error {
					fmt.Fprintf(&out, "%v %+v %#v", cfg.ObjectStore, cfg.ObjectStore, cfg.ObjectStore.S3)
					cfg.Logger.WithField("config", cfg.ObjectStore).Info("started")
					return nil
				})
			}
		}
		err := root.Run(t.Context(), withDefaultCommand(append([]string{"kinsy"}, args...)))
		text := fmt.Sprint(out.String(), err)
		if args[len(args)-1] == "--help" && len(args) == 2 && !strings.Contains(text, "--s3-secret-key") {
			t.Errorf("no help: %s", text)
		}
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%v shows %s:\n%s", args, secret, text)
			}
		}
	}
}
