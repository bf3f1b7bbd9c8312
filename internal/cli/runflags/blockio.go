package runflags

import (
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// blockIO is how much of the disks the container may use.
type blockIO struct {
	weight                                 string
	weights                                []string
	readBps, writeBps, readIOPS, writeIOPS []string
}

func (f *blockIO) bind(g group) {
	g.text(&f.weight, "blkio-weight", "", "`WEIGHT` against others that want a disk, 10 to 1000")
	g.list(&f.weights, "blkio-weight-device", "", "Weight for one disk: `DEVICE:WEIGHT` (repeatable)")
	g.list(&f.readBps, "device-read-bps", "", "Read at most SIZE bytes a second: `DEVICE:SIZE` (repeatable)")
	g.list(&f.writeBps, "device-write-bps", "", "Write at most SIZE bytes a second: `DEVICE:SIZE` (repeatable)")
	g.list(&f.readIOPS, "device-read-iops", "", "Read at most NUMBER times a second: `DEVICE:NUMBER` (repeatable)")
	g.list(&f.writeIOPS, "device-write-iops", "", "Write at most NUMBER times a second: `DEVICE:NUMBER` (repeatable)")
}

func (f *blockIO) fill(c *spec.Container) error {
	b := &c.Resources.BlockIO
	weight, err := readWeight("blkio-weight", f.weight)
	if err != nil {
		return err
	}
	b.Weight = weight
	for _, s := range f.weights {
		d, value, err := diskOf("blkio-weight-device", s)
		if err != nil {
			return err
		}
		w, err := readWeight("blkio-weight-device", value)
		if err != nil {
			return err
		}
		b.WeightDevice = append(b.WeightDevice, spec.WeightDevice{Major: d.Major, Minor: d.Minor, Weight: w})
	}
	for _, l := range []struct {
		flag  string
		texts []string
		to    *[]spec.ThrottleDevice
		size  bool
	}{
		{"device-read-bps", f.readBps, &b.ReadBps, true},
		{"device-write-bps", f.writeBps, &b.WriteBps, true},
		{"device-read-iops", f.readIOPS, &b.ReadIOPS, false},
		{"device-write-iops", f.writeIOPS, &b.WriteIOPS, false},
	} {
		for _, s := range l.texts {
			d, value, err := diskOf(l.flag, s)
			if err != nil {
				return err
			}
			n, err := values.Int(l.flag, value, 0, math.MaxInt64)
			if l.size {
				n, err = values.Size(l.flag, value)
			}
			if err != nil {
				return err
			}
			d.Rate = uint64(n)
			*l.to = append(*l.to, d)
		}
	}
	return nil
}

func readWeight(flag, s string) (uint16, error) {
	if s == "0" {
		return 0, nil
	}
	n, err := values.Int(flag, s, 10, 1000)
	return uint16(n), err
}

// diskOf takes the block device off DEVICE:VALUE.
func diskOf(flag, s string) (spec.ThrottleDevice, string, error) {
	device, value, ok := strings.Cut(s, ":")
	if !ok || value == "" || !strings.HasPrefix(device, "/") {
		return spec.ThrottleDevice{}, "", values.Bad(flag, s, "not a device and a value", "write /dev/sda:VALUE")
	}
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return spec.ThrottleDevice{}, "", errs.New(errs.KindOf(err), "--"+flag, strconv.Quote(s), err).WithHint("lsblk shows the disks of this machine")
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return spec.ThrottleDevice{}, "", values.Bad(flag, s, "not a block device", "lsblk shows the disks of this machine")
	}
	return spec.ThrottleDevice{Major: int64(unix.Major(uint64(st.Rdev))), Minor: int64(unix.Minor(uint64(st.Rdev)))}, value, nil
}
