package cli

import (
	"io"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

// Values of --log-format.
const (
	logPlain = "plain"
	logJSON  = "json"
)

// plainTime is RFC 3339 with milliseconds.
const plainTime = "2006-01-02T15:04:05.000Z07:00"

// newLogger returns a logger that writes to w in a format that was checked before. The fields of JSON are named as
// kine's are.
func newLogger(w io.Writer, format string, debug bool) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(w)
	if debug {
		log.SetLevel(logrus.DebugLevel)
	}
	if format == logJSON {
		log.SetFormatter(&logrus.JSONFormatter{
			TimestampFormat: time.RFC3339Nano,
			FieldMap:        logrus.FieldMap{logrus.FieldKeyLevel: "severity", logrus.FieldKeyMsg: "message"},
		})
		return log
	}
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: plainTime, DisableColors: !terminal.Colours(w)})
	return log
}
