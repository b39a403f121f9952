package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
)

const (
	// envelopeBytes are enough of an encrypted object to tell its key.
	envelopeBytes = 512
	// maxTextBytes is the size of the largest JSON object that is printed.
	maxTextBytes = 1 << 20
)

const inspectDescription = `FILE is a file on this machine. URL is that of an object: s3://BUCKET/PREFIX/chunks/... or
file:///FOLDER/chunks/... With --object-store, KEY is an object's key under its prefix, such as chunks/00000000000000000001.
Every checksum is verified; the exit code is 1 when something is wrong.`

func newInspectCommand() *cli.Command {
	settings, flags := newStoreFlags()
	return &cli.Command{
		Name:        "inspect",
		Usage:       "print and check a chunk, a snapshot, or rows that were set aside",
		ArgsUsage:   "FILE|URL|KEY",
		Description: inspectDescription,
		Flags: append(flags, &cli.BoolFlag{Name: "verbose", HideDefault: true,
			Usage: "print every row too, with its key but not its value"}),
		OnUsageError: usageError,
		Action: offline(func(ctx context.Context, s *session) error {
			if s.cmd.Args().Len() != 1 {
				return errors.New("kinsy inspect takes one FILE, URL or KEY; see kinsy inspect --help")
			}
			return s.inspect(ctx, settings, s.cmd.Args().First())
		}),
	}
}

func (s *session) inspect(ctx context.Context, settings *storeSettings, name string) (err error) {
	src, closeSource, err := s.openObject(ctx, settings, name)
	if err != nil {
		return err
	}
	defer closing(&err, closeSource)
	in := bufio.NewReaderSize(contextReader{ctx, src}, 64<<10)
	begin, err := in.Peek(envelopeBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if object.IsEncrypted(begin) {
		id, err := object.EncryptionKeyID(begin)
		if err != nil {
			return fmt.Errorf("%s is encrypted, but %w", name, err)
		}
		return fmt.Errorf("%s is encrypted with the key %q; give --object-store-key-file, and its place in object storage", name, id)
	}
	if bytes.HasPrefix(begin, []byte("{")) {
		return printJSON(s.out, name, in)
	}
	if err := rowfile.Describe(s.out, in, s.cmd.Bool("verbose")); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// openObject opens what is to be printed.
func (s *session) openObject(ctx context.Context, settings *storeSettings, name string) (io.Reader, func() error, error) {
	key := name
	switch {
	case strings.HasPrefix(name, s3Scheme), strings.HasPrefix(name, fileScheme):
		settings.object.URL, key = splitObjectURL(name)
	case s.set("object-store") && (!s.fromElsewhere("object-store") || !isFile(name)):
	case settings.object.KeyFile != "":
		abs, err := filepath.Abs(name)
		if err != nil {
			return nil, nil, fmt.Errorf("find file: %w", err)
		}
		settings.object.URL, key = splitObjectURL((&url.URL{Scheme: "file", Path: filepath.ToSlash(abs)}).String())
	default:
		return openLocal(name)
	}
	if folder := folderOf(settings.object.URL); folder != "" && settings.object.KeyFile == "" {
		return openLocal(filepath.Join(folder, filepath.FromSlash(key)))
	}
	cfg, err := settings.config()
	if err != nil {
		return nil, nil, err
	}
	return s.getObject(ctx, cfg, key)
}

func openLocal(path string) (io.Reader, func() error, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	return f, f.Close, nil
}

func (s *session) getObject(ctx context.Context, cfg object.Config, key string) (io.Reader, func() error, error) {
	store, err := s.openStore(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	src, _, err := store.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open %s: %w", key, err), object.Close(store))
	}
	return src, func() error { return errors.Join(src.Close(), object.Close(store)) }, nil
}

// splitObjectURL separates an object's key from the URL of its store: encryption covers the key. Keys have one element,
// or two of which the first is chunks or snapshots.
func splitObjectURL(text string) (store, key string) {
	store, key = path.Split(text)
	store = strings.TrimSuffix(store, "/")
	if parent, folder := path.Split(store); folder == "chunks" || folder == "snapshots" {
		return strings.TrimSuffix(parent, "/"), folder + "/" + key
	}
	return store, key
}

func isFile(name string) bool {
	_, err := os.Stat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// printJSON prints one of the small objects.
func printJSON(out io.Writer, name string, in io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(in, maxTextBytes))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, bytes.TrimSpace(text), "", "  "); err != nil {
		return fmt.Errorf("%s is neither rows nor JSON: %w", name, err)
	}
	pretty.WriteByte('\n')
	_, err = pretty.WriteTo(out)
	return err
}
