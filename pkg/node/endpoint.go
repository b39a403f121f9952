package node

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// datastore is what an --endpoint names.
type datastore struct {
	path    string   // of the SQLite file; empty: the default file of the data folder
	ignored []string // parameters that kinsy sets by itself, sorted
}

// parseEndpoint reads kine's endpoint syntax. Its errors never repeat the endpoint, which may hold a password.
func parseEndpoint(endpoint string) (datastore, error) {
	if endpoint == "" || endpoint == "sqlite" {
		return datastore{}, nil
	}
	scheme, rest, found := strings.Cut(endpoint, "://")
	if !found {
		return datastore{}, errors.New("--endpoint must be sqlite, or sqlite://PATH")
	}
	if scheme != "sqlite" {
		return datastore{}, fmt.Errorf("--endpoint %s:// is not supported: this version keeps its log in SQLite only; use sqlite://PATH", scheme)
	}
	path, query, _ := strings.Cut(rest, "?")
	path = strings.TrimPrefix(path, "file:")
	if strings.Contains(path, ":memory:") {
		return datastore{}, errors.New("--endpoint names a database in memory, which would lose acknowledged writes; use sqlite://PATH")
	}
	ignored, err := checkParameters(query)
	if err != nil {
		return datastore{}, err
	}
	return datastore{path: path, ignored: ignored}, nil
}

// checkParameters lists the SQLite parameters that kinsy sets by itself and refuses those that would change where or
// whether the log is kept.
func checkParameters(query string) ([]string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("--endpoint has parameters that are not percent-encoded")
	}
	var names []string
	for name := range values {
		if !strings.HasPrefix(name, "_") && name != "cache" {
			return nil, fmt.Errorf("--endpoint parameter %q is not supported", name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}
