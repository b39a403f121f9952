package replicate

import "testing"

func TestUploadsCountWhatWaits(t *testing.T) {
	var u uploads
	u.add(10, uploadGrain)
	u.add(11, 5) // counted with what comes next, up to the grain
	u.add(12, 7)
	if u.bytes != uploadGrain+12 {
		t.Fatalf("%d bytes wait", u.bytes)
	}
	u.uploaded(9)
	if u.bytes != uploadGrain+12 {
		t.Fatalf("%d bytes wait after an upload of half a group", u.bytes)
	}
	u.uploaded(11)
	if u.bytes != 12 {
		t.Fatalf("%d bytes wait after the upload of row 11", u.bytes)
	}
	u.uploaded(12)
	if u.bytes != 0 || len(u.groups) != 0 {
		t.Fatalf("%d bytes wait after the upload of all", u.bytes)
	}
}
