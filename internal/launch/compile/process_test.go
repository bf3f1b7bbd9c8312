package compile

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/launch/rows"
	"github.com/cortenhq/corten/internal/plan"
)

// Capabilities that newer kernels may have are dropped with the others, and the first one
// that the kernel does not know leads past the rest.
func TestBoundingSetIsDroppedWhole(t *testing.T) {
	c := &Program{Table: rows.New(100)}
	if err := c.dropBounding(plan.DropBounding{Keep: []string{"CAP_CHOWN", "CAP_BPF"}}); err != nil {
		t.Fatal(err)
	}
	if len(c.Rows) != 62 {
		t.Errorf("%d rows, want one for each of 64 but two", len(c.Rows))
	}
	for i, r := range c.Rows {
		if r.Nr != unix.SYS_PRCTL || r.Allow != uint64(unix.EINVAL) || int(r.Skip) != len(c.Rows)-1-i {
			t.Errorf("row %d: %+v", i, r)
		}
	}
}
