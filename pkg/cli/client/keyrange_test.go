package client

import (
	"errors"
	"testing"
)

func TestSpan(t *testing.T) {
	for _, tt := range []struct {
		o        span
		args     []string
		key, end string
	}{
		{span{}, []string{"a"}, "a", ""},
		{span{}, []string{"a", "c"}, "a", "c"},
		{span{prefix: true}, []string{"a"}, "a", "b"},
		{span{prefix: true}, []string{""}, "\x00", "\x00"},
		{span{prefix: true}, []string{"a\xff\xff"}, "a\xff\xff", "b"},
		{span{prefix: true}, []string{"\xff"}, "\xff", "\x00"},
		{span{fromKey: true}, []string{"b"}, "b", "\x00"},
		{span{fromKey: true}, []string{""}, "\x00", "\x00"},
		{span{escaped: true}, []string{`a\x00`, `a\n`}, "a\x00", "a\n"},
	} {
		key, end, err := tt.o.of(tt.args)
		if err != nil || string(key) != tt.key || string(end) != tt.end || (end == nil) != (tt.end == "") {
			t.Errorf("%+v %q: %q, %q, %v", tt.o, tt.args, key, end, err)
		}
	}
	for _, tt := range []struct {
		o    span
		args []string
	}{
		{span{prefix: true, fromKey: true}, []string{"a"}},
		{span{prefix: true}, []string{"a", "b"}},
		{span{}, []string{""}},
		{span{}, []string{"a", ""}},
		{span{escaped: true}, []string{`a\`}},
	} {
		if _, _, err := tt.o.of(tt.args); !errors.Is(err, ErrUsage) {
			t.Errorf("%+v %q: %v", tt.o, tt.args, err)
		}
	}
}
