package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxConfigBytes is the size of the largest configuration file that is read.
const maxConfigBytes = 1 << 20

// fileEntry is one value of the configuration file.
type fileEntry struct {
	value string
	line  int
}

// configFile is the YAML file that gives flags their values. It is read when the first value is asked for, which is
// after the command line was parsed.
type configFile struct {
	flagPath string          // from the command line
	known    map[string]bool // keys that may be in the file; true: the value may be a list

	loaded  bool
	err     error
	entries map[string]fileEntry
}

// path returns the file's path, or "" when none was named.
func (f *configFile) path() string {
	if f.flagPath != "" {
		return f.flagPath
	}
	return os.Getenv(envName(kinsyPrefix, configFlagName))
}

// lookup returns the entry of a key. A file that does not load has no entries; load says why.
func (f *configFile) lookup(key string) (fileEntry, bool) {
	if err := f.load(); err != nil {
		return fileEntry{}, false
	}
	entry, ok := f.entries[key]
	return entry, ok
}

// load reads the file once.
func (f *configFile) load() error {
	if f.loaded {
		return f.err
	}
	f.loaded = true
	path := f.path()
	if path == "" {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		f.err = fmt.Errorf("read configuration: %w", err)
		return f.err
	}
	defer file.Close()
	f.entries, f.err = f.decode(path, io.LimitReader(file, maxConfigBytes+1))
	return f.err
}

// decode reads one YAML mapping of known keys.
func (f *configFile) decode(path string, r io.Reader) (map[string]fileEntry, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(text) > maxConfigBytes {
		return nil, fmt.Errorf("%s: the file is larger than %d bytes", path, maxConfigBytes)
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: the file holds more than one document", path)
	}
	return f.readMapping(path, doc.Content[0])
}

func (f *configFile) readMapping(path string, root *yaml.Node) (map[string]fileEntry, error) {
	if root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: the file must be a mapping of flag names to values", path, root.Line)
	}
	entries := make(map[string]fileEntry)
	var errs []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		text, err := f.readValue(key, value)
		if _, twice := entries[key.Value]; twice {
			err = fmt.Errorf("%q is given twice", key.Value)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, key.Line, err))
			continue
		}
		entries[key.Value] = fileEntry{value: text, line: key.Line}
	}
	return entries, errors.Join(errs...)
}

// readValue returns the text of a value, that of a list as its items between commas.
func (f *configFile) readValue(key, value *yaml.Node) (string, error) {
	list, known := f.known[key.Value]
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	switch {
	case key.Kind != yaml.ScalarNode || !known:
		return "", fmt.Errorf("unknown key %q", key.Value)
	case value.Tag == "!!null":
		return "", fmt.Errorf("%q has no value", key.Value)
	case value.Kind == yaml.ScalarNode:
		return value.Value, nil
	case value.Kind != yaml.SequenceNode || !list:
		return "", fmt.Errorf("%q must be a single value", key.Value)
	}
	items := make([]string, 0, len(value.Content))
	for _, item := range value.Content {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return "", fmt.Errorf("%q must be a list of single values", key.Value)
		}
		items = append(items, item.Value)
	}
	return strings.Join(items, ","), nil
}
