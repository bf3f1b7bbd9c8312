package wire

import (
	"errors"
	"math"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// A kernel limits what leaves an interface. What comes to a container leaves the host's end of its
// pair. What comes from it arrives there, and is led through an interface of kind ifb, which it
// leaves: the container cannot change that. An ifb is for one container and is deleted after its end.

// shaperPrefix begins the names of ifbs.
const shaperPrefix = "cs"

func shaperName(hostSide string) string { return shaperPrefix + hostSide[min(2, len(hostSide)):] }

// Limit makes the rates of a link what it says; it may be changed while packets pass.
func (h *Host) Limit(in *Inside, l wiring.Link) error {
	if l.Driver != wiring.Bridge {
		return limitInside(in, l)
	}
	host, err := h.links.LinkByName(l.HostSide)
	if err != nil {
		return errs.Wrap("limit rate of", l.Interface, err)
	}
	if err := shape(h.links, host, l.Rate.In, l.Rate.Burst); err != nil {
		return errs.Wrap("limit what comes in by", l.Interface, err)
	}
	return errs.Wrap("limit what goes out by", l.Interface, h.limitOut(host, l))
}

// limitInside limits a link that has no end on the host: only what goes out by it, and a
// container that may change its interfaces (CAP_NET_ADMIN) may change that.
func limitInside(in *Inside, l wiring.Link) error {
	if l.Rate.In > 0 {
		return errs.Newf(errs.Unsupported, "limit what comes in by", l.Interface, "an interface of kind "+string(l.Driver)+" has no other end that could hold it back").
			WithHint("limit what goes out, or use a network of driver bridge")
	}
	link, err := in.links.LinkByName(l.Interface)
	if err == nil {
		err = shape(in.links, link, l.Rate.Out, l.Rate.Burst)
	}
	return errs.Wrap("limit what goes out by", l.Interface, err)
}

func (h *Host) limitOut(host netlink.Link, l wiring.Link) error {
	name := shaperName(l.HostSide)
	shaper, err := h.links.LinkByName(name)
	if l.Rate.Out == 0 {
		if missing(err) {
			return nil
		}
		return h.links.QdiscDel(ingress(host)) // the shaper goes when the container has ended
	}
	if missing(err) {
		a := netlink.NewLinkAttrs()
		a.Name, a.HardwareAddr = name, h.hardware(name)
		shaper = &netlink.Ifb{LinkAttrs: a}
		if err = h.links.LinkAdd(shaper); errors.Is(err, unix.EOPNOTSUPP) {
			return errs.New(errs.Unsupported, "make interface of kind", "ifb", err).WithHint("the kernel needs CONFIG_IFB")
		}
	}
	if err != nil {
		return err
	}
	if err := shape(h.links, shaper, l.Rate.Out, l.Rate.Burst); err != nil {
		return err
	}
	if err := h.links.LinkSetUp(shaper); err != nil {
		return err
	}
	if err := h.links.QdiscAdd(ingress(host)); errors.Is(err, unix.EEXIST) {
		return nil // it is led there already
	} else if err != nil {
		return err
	}
	return h.links.FilterAdd(&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: host.Attrs().Index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL},
		Actions:     []netlink.Action{netlink.NewMirredAction(shaper.Attrs().Index)},
	})
}

func ingress(l netlink.Link) *netlink.Ingress {
	return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
}

// shape gives what leaves an interface a rate, in bits per second; 0 is none.
func shape(links *netlink.Handle, l netlink.Link, rate, burst uint64) error {
	bucket := &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}}
	if rate == 0 {
		err := links.QdiscDel(bucket)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // there is none
			err = nil
		}
		return err
	}
	bucket.Rate = max(rate/8, 1)
	size := Burst(spec.Rate{Burst: burst}, rate)
	bucket.Buffer = ticks(size, bucket.Rate)
	// What waits is at most what passes in 100 ms, and not less than a full frame of offloading.
	bucket.Limit = uint32(min(size+max(bucket.Rate/10, 128<<10), math.MaxUint32))
	return links.QdiscReplace(bucket)
}

// Burst is how many bytes may pass at once.
func Burst(r spec.Rate, rate uint64) uint64 {
	if r.Burst > 0 {
		return r.Burst
	}
	return max(rate/8/50, 64<<10)
}

// ticks is the time for size bytes at a rate, in units of 64 ns: what the kernel counts in since 2.6.31.
func ticks(size, rate uint64) uint32 {
	return uint32(min(float64(size)/float64(rate)*1e9/64, math.MaxUint32))
}
