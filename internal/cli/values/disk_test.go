package values

import (
	"testing"

	"github.com/cortenhq/corten/internal/errs"
)

func TestDiskLimit(t *testing.T) {
	for _, c := range []struct {
		options []string
		want    int64 // -1: refused
	}{
		{nil, 0},
		{[]string{"size=1m"}, 1 << 20},
		{[]string{"size=10g"}, 10 << 30},
		{[]string{"size=1m", "size=2M"}, 2 << 20}, // the last one decides, as for other flags
		{[]string{"size=1023k"}, -1},
		{[]string{"size=0"}, -1},
		{[]string{"size="}, -1},
		{[]string{"size"}, -1},
		{[]string{"size=-1"}, -1},
		{[]string{"size=much"}, -1},
		{[]string{"dm.basesize=10g"}, -1},
		{[]string{"size=1m", "inodes=7"}, -1},
	} {
		got, err := DiskLimit("storage-opt", c.options)
		switch {
		case c.want < 0 && (!errs.Is(err, errs.Invalid) || errs.HintOf(err) == ""):
			t.Errorf("%q: %d, %v (%s)", c.options, got, err, errs.HintOf(err))
		case c.want >= 0 && (err != nil || got != c.want):
			t.Errorf("%q: %d, %v, want %d", c.options, got, err, c.want)
		}
	}
}
