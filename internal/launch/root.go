package launch

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch/compile"
	"github.com/cortenhq/corten/internal/launch/detached"
	"github.com/cortenhq/corten/internal/plan"
)

// RootView is how the root of a container is looked at from outside.
type RootView int

// The views. Without a Shift all show owners as they are stored, which is as the container
// knows them.
const (
	// RootBase is what the container was made from, without its writable layer.
	RootBase RootView = iota
	// RootRead shows base and writable layer, the latter as one more layer that is only read.
	// It does not disturb a container that runs on them: what changes meanwhile may be seen or
	// not.
	RootRead
	// RootWrite can be written to. Only one overlay at a time may have the writable layer, so
	// the container must not run, nor be started.
	RootWrite
)

// Shift shows the container's own files with the owners that they have for the host while it
// runs, so that they can be told from those of others.
type Shift struct {
	NS   *os.File   // a user namespace with the container's maps
	Root plan.Owner // its root
}

// OpenRoot mounts a container's root without the container. The mount is detached and ends
// with its last descriptor; programs and devices in it cannot be used.
func OpenRoot(r plan.Root, v RootView, shift *Shift) (*os.File, error) {
	h := &host{c: &compile.Program{}, fds: map[plan.Handle]int{}}
	defer h.closeAll()
	for _, s := range r.Open {
		if err := h.open(s); err != nil {
			return nil, errs.Wrap(s.String(), "", err)
		}
	}
	if shift != nil {
		r.Overlay.Root = shift.Root
		if err := h.shift(r, shift.NS); err != nil {
			return nil, err
		}
	}
	fd, err := h.view(r.Overlay, v)
	if err != nil {
		return nil, errs.Wrap("mount root", "", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC, Propagation: unix.MS_PRIVATE}
	if v != RootWrite {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		_ = unix.Close(fd)
		return nil, errs.Wrap("mount root", "", err)
	}
	return os.NewFile(uintptr(fd), "root"), nil
}

// shift shows the parts of a root that are the container's in a user namespace.
func (h *host) shift(r plan.Root, ns *os.File) error {
	o := r.Overlay
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	for _, a := range slices.Concat(o.Lower, o.Data, []plan.Handle{o.Writable}) {
		if slices.Contains(r.Unshifted, a) {
			continue
		}
		if err := unix.MountSetattr(h.fd(a), "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return errs.Wrap("shift owners of", string(a), err)
		}
	}
	return nil
}

// view makes the mount of a view.
func (h *host) view(o plan.Overlay, v RootView) (int, error) {
	o.Volatile = false
	if v == RootWrite {
		return h.overlay(o)
	}
	if v == RootBase && len(o.Lower) == 1 {
		return unix.FcntlInt(uintptr(h.fd(o.Lower[0])), unix.F_DUPFD_CLOEXEC, 0)
	}
	parts, err := h.isolate(o)
	if err != nil {
		return -1, err
	}
	fd, err := h.overlayOf(o, v)
	if errors.Is(err, unix.EINVAL) { // as in overlay
		err = detached.Aside(func() error {
			for _, a := range parts {
				if err := detached.Hang(h.fd(a)); err != nil {
					return errs.Wrap("mount", string(a), err)
				}
			}
			fd, err = h.overlayOf(o, v)
			return err
		})
	}
	return fd, err
}

// overlayOf makes an overlay that has no writable layer.
func (h *host) overlayOf(o plan.Overlay, v RootView) (int, error) {
	path := func(a plan.Handle) string { return "/proc/self/fd/" + strconv.Itoa(h.fd(a)) }
	var layers []string
	if v == RootRead {
		layers = append(layers, path(o.Writable)+"/upper")
	}
	for _, a := range o.Lower {
		layers = append(layers, path(a))
	}
	lower := strings.Join(layers, ":")
	var more []string
	for _, a := range o.Data {
		lower += "::" + path(a)
		more = []string{"metacopy=on", "redirect_dir=follow"}
	}
	if o.Sealed != "" {
		more = append(more, "verity="+string(o.Sealed))
	}
	if o.User {
		more = append(more, "userxattr")
	}
	return detached.New("overlay", unix.MOUNT_ATTR_RDONLY, slices.Concat([]string{"source=overlay", "lowerdir=" + lower}, more)...)
}
