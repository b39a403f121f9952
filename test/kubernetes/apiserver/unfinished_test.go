package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// unfinished is a list of which the first page was read.
type unfinished struct {
	cluster  *cluster
	resource resource
	begun    time.Time
	whole    []object // the list as it was then
	page     list
}

// beginPages reads the first page of a list, and in another way the whole list
// as it was at that revision.
func (c *cluster) beginPages(t *testing.T, r resource) unfinished {
	t.Helper()
	u := unfinished{cluster: c, resource: r, begun: time.Now()}
	u.page = c.listAll(t, fmt.Sprintf("%s?limit=%d", r.path, pageSize))
	u.whole = c.listAll(t, r.path+"?resourceVersionMatch=Exact&resourceVersion="+u.page.Metadata.ResourceVersion).Items
	return u
}

// finish reads the other pages: the list is as it was when it was begun. It may
// have been compacted away if that took long.
func (u unfinished) finish(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	read, page := u.page.Items, u.page
	for page.Metadata.Continue != "" {
		path := fmt.Sprintf("%s?limit=%d&continue=%s", u.resource.path, pageSize, page.Metadata.Continue)
		page = list{}
		err := u.cluster.do(ctx, http.MethodGet, path, nil, &page)
		var status *statusError
		if errors.As(err, &status) && status.Code == http.StatusGone && time.Since(u.begun) > compactionInterval {
			t.Logf("the pages of %s were compacted meanwhile", u.resource.path)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, page.Items...)
	}
	if got, want := describe(t, read), describe(t, u.whole); got != want {
		t.Errorf("pages of %s differ from the list when they were begun:\n%s\n%s", u.resource.path, got, want)
	}
}
