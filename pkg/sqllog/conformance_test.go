package sqllog_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/sqllog"
	"github.com/kinsy/kinsy/pkg/sqllog/sqllogtest"
)

func testConfig(t *testing.T, dir string) sqllog.Config {
	logger := logrus.New()
	logger.SetOutput(t.Output())
	return sqllog.Config{Path: filepath.Join(dir, "log ?#%.db"), Logger: logger} // a name that a URI must escape
}

func openLog(t *testing.T, dir string) sqllogtest.Log {
	log, err := sqllog.Open(context.Background(), testConfig(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestConformance(t *testing.T) {
	t.Parallel()
	sqllogtest.Run(t, openLog)
}

func TestLoaderConformance(t *testing.T) {
	t.Parallel()
	sqllogtest.RunLoader(t, func(t *testing.T, dir string) (sqllogtest.Loader, error) {
		return sqllog.NewLoader(context.Background(), testConfig(t, dir))
	}, openLog)
}
