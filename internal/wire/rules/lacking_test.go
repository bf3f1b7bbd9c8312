package rules

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// What kernels say that have no nftables, or not all of it, leads to what works without.
func TestLacking(t *testing.T) {
	for _, e := range []error{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT} {
		err := lacking("open nftables", fmt.Errorf("socket: %w", e))
		if !errs.Is(err, errs.Unsupported) || !strings.Contains(errs.HintOf(err), "--network host") || !strings.Contains(err.Error(), "open nftables") {
			t.Errorf("%v: %v, hint %q", e, err, errs.HintOf(err))
		}
	}
	for _, e := range []error{unix.EPERM, unix.EEXIST, unix.ENOENT, unix.EBUSY} {
		if err := lacking("x", e); errs.HintOf(err) != "" || errs.KindOf(err) != errs.KindOf(e) {
			t.Errorf("%v: %v, hint %q", e, err, errs.HintOf(err))
		}
	}
	if lacking("x", nil) != nil {
		t.Error("an error of none")
	}
}

// An expression that the kernel does not know is ENOENT; so is a chain that it lacks the type of.
func TestMakeWithoutExpression(t *testing.T) {
	inNamespace(t)
	c := open(t)
	content := Content{{Family: "inet", Name: "corten", Chains: []Chain{{Name: "c", Hook: "forward", Type: "unheard"}}}}
	err := c.Make(content, Facts{Name: "corten"})
	if !errs.Is(err, errs.Unsupported) || !strings.Contains(errs.HintOf(err), "CONFIG_NFT_FIB_INET") {
		t.Errorf("%v, hint %q", err, errs.HintOf(err))
	}
}
