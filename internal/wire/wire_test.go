package wire

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// apart has the rest of the test in a network namespace of its own.
func apart(t *testing.T) *Host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread() // and the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("needs network namespaces:", err)
	}
	h, err := Open("/run/test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func ip(t *testing.T, args string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
	return string(out)
}

func TestBridge(t *testing.T) {
	h := apart(t)
	s := &wiring.Switch{Name: "ct-a", Addresses: []netip.Prefix{netip.MustParsePrefix("10.200.0.1/24"), netip.MustParsePrefix("fd00::1/64")}}
	for range 2 { // the second time it is there
		if err := h.Bridge(s, 1400); err != nil {
			t.Fatal(err)
		}
	}
	got := ip(t, "-d address show dev ct-a")
	for _, want := range []string{"mtu 1400", "10.200.0.1/24", "fd00::1/64 scope global", h.hardware("ct-a").String()} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	// Who made it was killed before it was up: what is missing is done.
	ip(t, "link set ct-a down")
	ip(t, "address flush dev ct-a")
	if err := h.Bridge(s, 1400); err != nil {
		t.Fatal(err)
	}
	if got := ip(t, "address show dev ct-a"); !strings.Contains(got, "10.200.0.1/24") || !strings.Contains(got, "fd00::1/64") {
		t.Error(got)
	}
	ip(t, "link add ct-b type veth peer name other")
	if err := h.Bridge(&wiring.Switch{Name: "ct-b"}, 0); !errs.Is(err, errs.Exists) || errs.HintOf(err) == "" {
		t.Errorf("another interface of that name: %v", err)
	}
	used := &wiring.Document{Links: []wiring.Link{{Switch: s}}}
	if gone, err := h.Unused([]*wiring.Document{used}, nil); err != nil || len(gone) > 0 {
		t.Error(gone, err)
	}
	// The user's own stays: a bridge that was there, a parent, an end of a pair on our bridge.
	ip(t, "link add br0 type bridge")
	ip(t, "link set br0 up")
	ip(t, "link add br1 type bridge")
	ip(t, "link set ct-b master ct-a")
	if err := h.Bridge(&wiring.Switch{Name: "br0"}, 0); err != nil {
		t.Error(err)
	}
	// What was being made when somebody was killed goes.
	ip(t, "link add ct-c address "+h.hardware("ct-c").String()+" type bridge")
	ip(t, "link add csx address "+h.hardware("csx").String()+" type ifb")
	ip(t, "link add csy type ifb")
	old := &wiring.Document{Links: []wiring.Link{{Switch: &wiring.Switch{Name: "br0"}, HostSide: "ctx"},
		{Switch: &wiring.Switch{Name: "ct-c"}, HostSide: "cty"}, {Parent: &wiring.Parent{Name: "br1"}}}}
	gone, err := h.Unused(nil, []*wiring.Document{old})
	slices.Sort(gone)
	if err != nil || !slices.Equal(gone, []string{"ct-a", "ct-c"}) {
		t.Error(gone, err)
	}
	got = ip(t, "-o link")
	for name, stays := range map[string]bool{"ct-a:": false, "ct-c:": false, "csx:": false, "csy:": true, "ct-b@": true, "br0:": true, "br1:": true} {
		if strings.Contains(got, name) != stays {
			t.Errorf("%s stays: %v, in %s", name, !stays, got)
		}
	}
}

func TestParent(t *testing.T) {
	h := apart(t)
	ip(t, "link add eth0 type veth peer name other")
	if err := h.Parent(&wiring.Parent{Name: "eth0"}); err != nil {
		t.Error(err)
	}
	if err := h.Parent(&wiring.Parent{Name: "eth7"}); !errs.Is(err, errs.NotFound) || errs.HintOf(err) == "" {
		t.Error(err)
	}
	err := h.Parent(&wiring.Parent{Name: "eth0", VLAN: 7})
	if errs.Is(err, errs.Unsupported) && strings.Contains(errs.HintOf(err), "CONFIG_VLAN_8021Q") {
		t.Skip("the kernel has no VLANs")
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := ip(t, "-d link show dev eth0.7"); !strings.Contains(got, "vlan protocol 802.1Q id 7") || !strings.Contains(got, "UP") {
		t.Error(got)
	}
	if _, err := h.Unused(nil, nil); err != nil || strings.Contains(ip(t, "-o link"), "eth0.7") {
		t.Error(err)
	}
}

func TestVLANsOfABridge(t *testing.T) {
	h := apart(t)
	err := h.Bridge(&wiring.Switch{Name: "ct-v", VLANs: true}, 0)
	if errs.Is(err, errs.Unsupported) && errs.HintOf(err) != "" {
		t.Skip("the kernel filters no VLANs")
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := ip(t, "-d link show dev ct-v"); !strings.Contains(got, "vlan_filtering 1") {
		t.Error(got)
	}
}

func TestForwarding(t *testing.T) {
	h := apart(t)
	_ = set(forward4, "0")
	ip(t, "link add eth0 type veth peer name eth1")
	file := filepath.Join(t.TempDir(), "host")
	none := func() ([]*wiring.Document, error) { return nil, nil }
	s, changed, err := h.Forwarding(file, none)
	if err != nil || !changed || !s.Forward4 || !slices.Equal(s.Quiet, []string{"eth1", "eth0"}) {
		t.Fatal(s, changed, err)
	}
	if again, changed, err := h.Forwarding(file, none); err != nil || changed || !slices.Equal(again.Quiet, s.Quiet) {
		t.Error(again, changed, err)
	}
	if setting(forward4) != "1" || HasIPv6() && (setting(forward6) != "1" || setting("net/ipv6/conf/eth0/accept_ra") != "2") {
		t.Error("it does not forward")
	}
	if err := h.Restore(file, nil); err != nil {
		t.Fatal(err)
	}
	if setting(forward4) != "0" || HasIPv6() && (setting(forward6) != "0" || setting("net/ipv6/conf/eth0/accept_ra") != "1") {
		t.Error("it forwards still")
	}
	if err := h.Restore(file, nil); err != nil {
		t.Error("again: ", err)
	}
	if err := os.WriteFile(file, []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSettings(file); !errs.Is(err, errs.Unsupported) {
		t.Error("of a later version: ", err)
	}
}

func TestRate(t *testing.T) {
	for _, c := range []struct{ burst, rate, want uint64 }{
		{0, 1_000_000, 64 << 10}, {0, 1_000_000_000, 2_500_000}, {1500, 1_000_000_000, 1500},
	} {
		if got := Burst(spec.Rate{Burst: c.burst}, c.rate); got != c.want {
			t.Errorf("burst of %d at %d: %d, want %d", c.burst, c.rate, got, c.want)
		}
	}
	if got := ticks(1_000_000, 1_000_000); got != 15_625_000 {
		t.Errorf("a second is %d ticks", got)
	}
	if got := ticks(1<<40, 1); got != 1<<32-1 {
		t.Errorf("a number that is too large is %d", got)
	}
	if shaperName("cv0123456789abc") != "cs0123456789abc" {
		t.Error(shaperName("cv0123456789abc"))
	}
}
