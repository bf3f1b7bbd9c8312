package attend

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
)

func TestCIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cid")
	c, err := makeCIDFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := makeCIDFile(path); !errs.Is(err, errs.Exists) {
		t.Error(err)
	}
	if err := c.write("0123"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, []byte("0123")) {
		t.Errorf("%q %v", b, err)
	}
	c.remove()
	if _, err := os.Stat(path); err == nil {
		t.Error("still there")
	}
}
