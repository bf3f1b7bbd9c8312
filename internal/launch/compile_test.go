package launch

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/plan"
)

// Capabilities that newer kernels may have are dropped with the others, and the first one
// that the kernel does not know leads past the rest.
func TestBoundingSetIsDroppedWhole(t *testing.T) {
	c := &compiler{table: newTable(100)}
	if err := c.dropBounding(plan.DropBounding{Keep: []string{"CAP_CHOWN", "CAP_BPF"}}); err != nil {
		t.Fatal(err)
	}
	if len(c.rows) != 62 {
		t.Errorf("%d rows, want one for each of 64 but two", len(c.rows))
	}
	for i, r := range c.rows {
		if r.nr != unix.SYS_PRCTL || r.allow != uint64(unix.EINVAL) || int(r.skip) != len(c.rows)-1-i {
			t.Errorf("row %d: %+v", i, r)
		}
	}
}
