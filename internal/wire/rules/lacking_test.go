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

// Without nftables nothing can be made, and nothing need be deleted.
func TestWithoutNftables(t *testing.T) {
	c, facts, d := &Conn{-1}, Facts{Name: "corten", IPv6: true}, documents()[0]
	if err := c.Make(Of(documents(), facts), facts); !errs.Is(err, errs.Unsupported) || !strings.Contains(errs.HintOf(err), "--network host") {
		t.Errorf("make: %v, hint %q", err, errs.HintOf(err))
	}
	if err := c.Add(d, facts); !errs.Is(err, errs.Unsupported) {
		t.Errorf("add: %v", err)
	}
	if err := c.Remove(d, facts); err != nil {
		t.Errorf("remove: %v", err)
	}
	if err := c.Delete(facts); err != nil {
		t.Errorf("delete: %v", err)
	}
	c.Close()
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
