package mvcctest_test

import (
	"testing"

	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog/sqllogtest"
)

func TestConformance(t *testing.T) {
	kept := map[string]*mvcctest.Log{}
	sqllogtest.Run(t, func(_ *testing.T, dir string) sqllogtest.Log {
		if l := kept[dir]; l != nil {
			kept[dir] = l.Reopen()
		} else {
			kept[dir] = mvcctest.New()
		}
		return kept[dir]
	})
}
