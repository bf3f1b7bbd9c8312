package kernel

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Loop is a loop device with a file behind it.
type Loop struct{ dev *os.File }

// AttachLoop puts a file behind a free loop device, read-only. The device lets go of the
// file when it is closed and no longer mounted (LO_FLAGS_AUTOCLEAR), so nothing is left
// behind by whoever dies.
func AttachLoop(file string) (*Loop, error) {
	back, err := os.Open(file)
	if err != nil {
		return nil, errs.Wrap("attach loop device to", file, err)
	}
	defer back.Close()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errs.New(errs.Unsupported, "attach loop device to", file, err).
			WithHint("this kernel mounts images through loop devices only, and there are none: load the module loop")
	}
	defer ctl.Close()
	for {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, errs.Wrap("find a free loop device for", file, err)
		}
		dev, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, errs.Wrap("attach loop device to", file, err)
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &unix.LoopConfig{
			Fd: uint32(back.Fd()), Size: 4096,
			Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_READ_ONLY},
		})
		if err == nil {
			return &Loop{dev}, nil
		}
		dev.Close()
		if err != unix.EBUSY { // EBUSY: somebody else took it in between
			return nil, errs.Wrap("attach loop device to", file, err)
		}
	}
}

// Path is the device file.
func (l *Loop) Path() string { return l.dev.Name() }

// Close closes our descriptor; a mount keeps the device.
func (l *Loop) Close() error { return l.dev.Close() }
