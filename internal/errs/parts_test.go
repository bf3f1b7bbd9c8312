package errs

import (
	"errors"
	"testing"
)

// TestParts sees that an error says on the other side what it said on this one.
func TestParts(t *testing.T) {
	for _, err := range []error{
		New(Busy, "start", "web", Newf(Invalid, "read", "spec", "no")).WithHint("try again"),
		Newf(NotFound, "find", "web", "it is gone"),
		Wrap("outer", "thing", New(Denied, "open", "file", errors.New("permission denied")).WithHint("be root")),
		errors.New("plain"),
	} {
		got := PartsOf(err).Whole()
		if got.Error() != err.Error() || KindOf(got) != KindOf(err) || HintOf(got) != HintOf(err) {
			t.Errorf("%q (%v, %q) became %q (%v, %q)", err, KindOf(err), HintOf(err), got, KindOf(got), HintOf(got))
		}
	}
}
