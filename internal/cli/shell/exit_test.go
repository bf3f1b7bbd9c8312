package shell

import (
	"testing"

	"github.com/cortenhq/corten/internal/errs"
)

func TestExitCodes(t *testing.T) {
	missing := errs.New(errs.NotFound, "execute", "x", nil)
	denied := errs.New(errs.Denied, "execute", "x", nil)
	image := errs.New(errs.NotFound, "find image", "x", nil)
	for _, x := range []struct {
		err  error
		code int
		said bool
	}{
		{RunExit(missing), 127, true},
		{RunExit(errs.Wrap("run", "c", missing)), 127, true},
		{RunExit(denied), 126, true},
		{RunExit(image), 125, true},
		{RunExit(&Exit{Code: 7}), 7, false},
		{Signaled(15), 143, false},
		{image, 1, true},
		{Misused(image), 125, true},
	} {
		code, err := ExitOf(x.err)
		if code != x.code || (err != nil) != x.said {
			t.Errorf("%v: %d %v", x.err, code, err)
		}
	}
	if RunExit(nil) != nil {
		t.Error("no error became one")
	}
}
