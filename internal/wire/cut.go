package wire

import (
	"net/netip"
	"os"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/wiring"
)

// Cut takes a container off its networks whose namespace others may be in for a long time (--network
// container:ID): its interfaces go only with that, and its addresses will be others'. A bridge takes nothing
// more from it then, and passes nothing on to it, which takes some 30 µs. The bridge would open the port again when
// the other end goes down and up: what then comes the rules drop, until Unused deletes the pair. An interface on a
// parent is set down where it is.
func (h *Host) Cut(d *wiring.Document) error {
	for _, l := range d.Links {
		var err error
		switch {
		case l.HostSide != "":
			err = h.closePort(l.HostSide)
		case l.Parent != nil:
			err = h.setDown(l)
		}
		if err != nil && !missing(err) {
			return errs.Wrap("cut off network "+l.Network+" container", d.Name, err)
		}
	}
	return nil
}

// brStateDisabled is BR_STATE_DISABLED, linux/if_bridge.h.
const brStateDisabled = 0

func (h *Host) closePort(name string) error {
	link, err := h.links.LinkByName(name)
	if err != nil || link.Attrs().MasterIndex == 0 {
		return err
	}
	return h.setPort(link, func(flags *nl.RtAttr) { flags.AddRtAttr(nl.IFLA_BRPORT_STATE, []byte{brStateDisabled}) })
}

// setDown looks for the interface of a link in every network namespace that a process is in: nothing on the host
// leads to it. Where there are a hundred it takes some 10 ms.
func (h *Host) setDown(l wiring.Link) error {
	parent, err := h.links.LinkByName(parentName(l.Parent))
	if err != nil {
		return err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		ns, err := os.Readlink("/proc/" + e.Name() + "/ns/net")
		if err != nil || seen[ns] { // it has just ended, or another one is there too
			continue
		}
		seen[ns] = true
		in, err := h.Enter(pid)
		if err != nil {
			continue // ours, or it has just ended
		}
		link, err := in.links.LinkByName(l.Interface)
		if err == nil && link.Attrs().ParentIndex == parent.Attrs().Index && link.Type() == string(l.Driver) && in.hasAny(link, l.Addresses) {
			err = in.links.LinkSetDown(link)
		}
		in.Close()
		if err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

// hasAny reports whether an interface has one of the addresses.
func (in *Inside) hasAny(link netlink.Link, addresses []netip.Prefix) bool {
	list, err := whole(func() ([]netlink.Addr, error) { return in.links.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return false
	}
	for _, a := range list {
		ip, _ := netip.AddrFromSlice(a.IP)
		for _, p := range addresses {
			if ip.Unmap() == p.Addr() {
				return true
			}
		}
	}
	return false
}
