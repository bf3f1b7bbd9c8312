package cgroup

import (
	"strconv"

	"github.com/cortenhq/corten/internal/spec"
)

// blockIO plans weights and limits of block devices.
func (b *builder) blockIO(r spec.BlockIO) error {
	if r.LeafWeight != 0 {
		b.warn("the leaf weight of block devices has no effect: it went away with the CFQ scheduler in Linux 5.0")
	}
	if r.Weight != 0 || len(r.WeightDevice) > 0 {
		if err := b.ioWeights(r); err != nil {
			return err
		}
	}
	for _, t := range [...]struct {
		devices  []spec.ThrottleDevice
		v1, v2   string
		what, of string
	}{
		{r.ReadBps, "blkio.throttle.read_bps_device", "rbps", "limit reading", " bytes a second"},
		{r.WriteBps, "blkio.throttle.write_bps_device", "wbps", "limit writing", " bytes a second"},
		{r.ReadIOPS, "blkio.throttle.read_iops_device", "riops", "limit reading", " operations a second"},
		{r.WriteIOPS, "blkio.throttle.write_iops_device", "wiops", "limit writing", " operations a second"},
	} {
		for _, d := range t.devices {
			s, err := b.use(t.what, "io", "blkio")
			if err != nil {
				return err
			}
			device, rate := deviceName(d.Major, d.Minor), strconv.FormatUint(d.Rate, 10)
			w := Write{File: s.file(t.v1), Value: device + " " + rate, Why: t.what + " of device " + device + " to " + rate + t.of}
			if d.Rate == 0 {
				w.Why = "take the limit off device " + device
			}
			if s.v2 {
				if d.Rate == 0 {
					rate = "max"
				}
				w.File, w.Value = s.file("io.max"), device+" "+t.v2+"="+rate
			}
			b.write(w)
		}
	}
	return nil
}

func deviceName(major, minor int64) string {
	return strconv.FormatInt(major, 10) + ":" + strconv.FormatInt(minor, 10)
}

// ioWeights plans the weights. Two parts of the kernel heed weights, each from a file of its
// own that is there if the part is: the BFQ scheduler, and v2's cost model. Which of them
// drives a device is not known here, so both are told, and one must take it.
func (b *builder) ioWeights(r spec.BlockIO) error {
	weigh := func(device string, weight uint16) error {
		if weight < 10 || weight > 1000 {
			return invalid("weigh block devices", strconv.Itoa(int(weight)), "want 10 to 1000")
		}
		s, err := b.use("weigh block devices", "io", "blkio")
		if err != nil {
			return err
		}
		value, suffix := strconv.Itoa(int(weight)), ""
		why := "weigh block device access by " + value
		if device != "" {
			device, suffix, why = device+" ", "_device", why+" on "+device
		}
		if !s.v2 {
			b.write(Write{File: s.file("blkio.bfq.weight" + suffix), Value: device + value, Why: why,
				Else: &Write{File: s.file("blkio.weight" + suffix), Value: device + value, Why: why}})
			return nil
		}
		cost := Write{File: s.file("io.weight"), Value: device + strconv.FormatUint(ioWeight(weight), 10), Why: why}
		bfq := Write{File: s.file("io.bfq.weight"), Value: device + value, Why: why, Else: &cost}
		first := cost
		first.Optional = true
		b.write(first, bfq)
		return nil
	}
	if r.Weight != 0 {
		if err := weigh("", r.Weight); err != nil {
			return err
		}
	}
	for _, d := range r.WeightDevice {
		if d.LeafWeight != 0 && r.LeafWeight == 0 {
			b.warn("the leaf weight of block devices has no effect: it went away with the CFQ scheduler in Linux 5.0")
			r.LeafWeight = d.LeafWeight
		}
		if d.Weight == 0 {
			continue
		}
		if err := weigh(deviceName(d.Major, d.Minor), d.Weight); err != nil {
			return err
		}
	}
	return nil
}
