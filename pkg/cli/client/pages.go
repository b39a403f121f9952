package client

import (
	"bytes"
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// pageKeys is how many keys are read at once.
const pageKeys = 1000

// pages reads a range page by page, all at one revision, and gives each page to f with how many keys there are in all.
func (s *servers) pages(ctx context.Context, r *pb.RangeRequest, f func(page *pb.RangeResponse, total int64) error) error {
	r = &pb.RangeRequest{Key: r.Key, RangeEnd: r.RangeEnd, Revision: r.Revision, KeysOnly: r.KeysOnly, Limit: pageKeys}
	total := int64(-1)
	for {
		page, err := s.get(ctx, r)
		if err != nil {
			return err
		}
		if r.Revision == 0 {
			r.Revision = page.GetHeader().GetRevision()
		}
		if total < 0 {
			total = page.GetCount()
		}
		if err := f(page, total); err != nil {
			return err
		}
		if !page.GetMore() || len(page.GetKvs()) == 0 {
			return nil
		}
		r.Key = append(bytes.Clone(page.Kvs[len(page.Kvs)-1].Key), 0)
	}
}
