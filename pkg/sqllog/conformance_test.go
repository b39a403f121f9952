package sqllog_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/sqllog"
	"github.com/kinsy/kinsy/pkg/sqllog/sqllogtest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	sqllogtest.Run(t, func(t *testing.T, dir string) sqllogtest.Log {
		logger := logrus.New()
		logger.SetOutput(t.Output())
		log, err := sqllog.Open(context.Background(), sqllog.Config{
			Path: filepath.Join(dir, "log ?#%.db"), Logger: logger, // a name that a URI must escape
		})
		if err != nil {
			t.Fatal(err)
		}
		return log
	})
}
