package wire

import (
	"errors"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Move puts interfaces of the host into a container, under other names if that is said, with the addresses
// that were given to them for good, and sets them up. What they are besides that goes with them (OCI runtime
// specification 1.3, config-linux.md, "Network Devices"). All of them are looked for before one is moved:
// with the namespace the kernel gives back what is hardware, and the rest is gone.
func (h *Host) Move(in *Inside, list []spec.NetDevice) error {
	taken := map[string]bool{}
	for _, d := range list {
		name := d.Inside()
		if _, err := h.links.LinkByName(d.Host); err != nil {
			e := errs.New(errs.KindOf(err), "move network interface", d.Host, err)
			if missing(err) {
				e = errs.New(errs.NotFound, "move network interface", d.Host, nil).WithHint("ip link shows those of the host")
			}
			return e
		}
		there, err := in.Has(name)
		if err != nil {
			return errs.Wrap("move network interface", d.Host, err)
		}
		if !d.Template() && (there || taken[name]) {
			return errs.Newf(errs.Exists, "move network interface", d.Host, "the container has another "+name).
				WithHint(`choose another name; with "%d" at its end the kernel finds a number`)
		}
		taken[name] = true
	}
	for _, d := range list {
		if err := h.move(in, d); err != nil {
			return errs.Wrap("move network interface", d.Host, err)
		}
	}
	return nil
}

// move moves and renames one in a message: its name may be another's in the one namespace or the other.
func (h *Host) move(in *Inside, d spec.NetDevice) error {
	link, err := h.links.LinkByName(d.Host)
	if err != nil {
		return err
	}
	addresses, err := whole(func() ([]netlink.Addr, error) { return h.links.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	before, err := in.indexes()
	if err != nil {
		return err
	}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(link.Attrs().Index)
	req := h.request(unix.RTM_NEWLINK, 0)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(d.Inside())))
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(in.FD()))))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			return errs.New(errs.Unsupported, "", "", err).WithHint("the kernel moves no interface of this kind, such as lo")
		}
		return err
	}
	after, err := in.indexes()
	if err != nil {
		return err
	}
	after = slices.DeleteFunc(after, func(i int) bool { return slices.Contains(before, i) })
	if len(after) != 1 {
		return errs.Newf(errs.Other, "", "", "it did not come to the container")
	}
	moved := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: after[0]}}
	for _, a := range addresses {
		if a.Scope != unix.RT_SCOPE_UNIVERSE || a.Flags&unix.IFA_F_PERMANENT == 0 {
			continue
		}
		again := &netlink.Addr{IPNet: a.IPNet, Peer: a.Peer, Broadcast: a.Broadcast, Flags: a.Flags &^ (unix.IFA_F_PERMANENT | unix.IFA_F_TENTATIVE)}
		if err := in.links.AddrAdd(moved, again); err != nil && !errors.Is(err, unix.EEXIST) {
			return errs.Wrap("keep address", a.IPNet.String(), err)
		}
	}
	return in.links.LinkSetUp(moved)
}

// indexes is the numbers of all interfaces in the namespace.
func (in *Inside) indexes() ([]int, error) {
	links, err := whole(in.links.LinkList)
	list := make([]int, 0, len(links))
	for _, l := range links {
		list = append(list, l.Attrs().Index)
	}
	return list, err
}
