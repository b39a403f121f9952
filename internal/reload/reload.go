// Package reload notices that files have changed which are in force for as long as a
// process runs, such as certificates.
package reload

import (
	"errors"
	"os"
	"time"

	"github.com/sirupsen/logrus"
)

// Interval is the least time between two looks at the files.
const Interval = time.Second

// Files are files that belong together: what they hold is in force, all of it or none.
// The caller guards them.
type Files struct {
	// Paths of the files; an empty one is no file.
	Paths [3]string
	// Load reads the files and puts them in force, or leaves everything as it was.
	Load func() error
	// What they are, in messages.
	What string
	Log  logrus.FieldLogger
	Now  func() time.Time

	checked time.Time // when the files were last looked at
	stamps  [3]stamp  // of the files at the last attempt to load them
}

// stamp tells one version of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

// First loads the files.
func (f *Files) First() error {
	f.checked = f.Now()
	f.stamps, _ = f.stat()
	return f.Load()
}

// Forget has the next Refresh look, however short ago the last one was.
func (f *Files) Forget() { f.checked = time.Time{} }

// Refresh loads the files again if they changed since the last attempt. What does not
// load is logged once and leaves everything as it was: certificate and key are often
// replaced one after the other.
func (f *Files) Refresh() {
	now := f.Now()
	if now.Sub(f.checked) < Interval {
		return
	}
	f.checked = now
	stamps, err := f.stat()
	if err == nil && stamps == f.stamps {
		return
	}
	if err == nil {
		err = f.Load()
	}
	known := stamps == f.stamps
	f.stamps = stamps
	log := f.Log.WithField("file", f.Paths[0])
	switch {
	case err == nil:
		log.Info(f.What + " reloaded")
	case !known:
		log.WithError(err).Error(f.What + " not reloaded, the one in force is kept")
	}
}

// stat returns the stamps of the files; that of a missing file is zero, and an error
// says so.
func (f *Files) stat() ([3]stamp, error) {
	var stamps [3]stamp
	var errs []error
	for i, path := range f.Paths {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		stamps[i] = stamp{modified: info.ModTime(), size: info.Size()}
	}
	return stamps, errors.Join(errs...)
}
