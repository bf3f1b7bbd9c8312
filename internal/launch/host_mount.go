package launch

import (
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/launch/detached"
	"github.com/cortenhq/corten/internal/launch/numbers"
	"github.com/cortenhq/corten/internal/plan"
)

// asOwner runs f with the file system identity of the container's root: what f creates belongs
// to the container, and an overlay that f makes creates files as that owner for as long as it lives.
func asOwner(o plan.Owner, f func() error) error {
	if o.UID == 0 && o.GID == 0 {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	undo, err := kernel.FilesAs(o.UID, o.GID)
	if err != nil {
		return errs.New(errs.Denied, "take the file system identity", o.String(), err).
			WithHint("it takes CAP_SETPCAP, and CAP_SETUID and CAP_SETGID over that user and group")
	}
	defer undo()
	return f()
}

// overlay makes the root. Layers are given by the paths of their descriptors, so that
// they may be detached, idmapped mounts that no path leads to. Before Linux 6.15 they may
// not be detached (EINVAL).
func (h *host) overlay(s plan.Overlay) (int, error) {
	parts, err := h.isolate(s)
	if err != nil {
		return -1, err
	}
	fd, err := h.overlayOn(s)
	if errors.Is(err, unix.EINVAL) {
		return h.overlayAttached(s, parts)
	}
	return fd, err
}

// isolate makes the overlay's parts private and returns them. They will be mounted over one
// another (hangAside, plan.Stow): over a peer of the mount on the host that it was cloned
// from, that would be mounted on the host as well (mount_namespaces(7), "Shared subtrees").
func (h *host) isolate(s plan.Overlay) ([]plan.Handle, error) {
	parts := slices.Concat(s.Lower, s.Data, []plan.Handle{s.Writable})
	for _, a := range parts {
		if err := unix.MountSetattr(h.fd(a), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
			return nil, errs.Wrap("make private", string(a), err)
		}
	}
	return parts, nil
}

// overlayOn makes the overlay on its layers as they are.
func (h *host) overlayOn(s plan.Overlay) (fd int, err error) {
	path := func(a plan.Handle) string { return "/proc/self/fd/" + strconv.Itoa(h.fd(a)) }
	var lower strings.Builder
	for i, a := range s.Lower {
		if i > 0 {
			lower.WriteByte(':')
		}
		lower.WriteString(path(a))
	}
	options := []string{"source=overlay"} // what df shows
	for _, a := range s.Data {
		lower.WriteString("::" + path(a))
	}
	options = append(options, "lowerdir="+lower.String(),
		"upperdir="+path(s.Writable)+"/upper", "workdir="+path(s.Writable)+"/work")
	if len(s.Data) > 0 {
		options = append(options, "metacopy=on", "redirect_dir=on")
	}
	if s.Sealed != "" {
		options = append(options, "verity="+string(s.Sealed))
	}
	if s.User {
		options = append(options, "userxattr")
	}
	if s.Volatile {
		options = append(options, "volatile")
	}
	if s.Label != "" {
		options = append(options, "context="+s.Label)
	}
	err = asOwner(s.Root, func() error {
		fd, err = detached.New("overlay", int(numbers.Attrs(false, false, s.NoDev, false)), options...)
		if err != nil {
			return err
		}
		if err := writable(fd, h.fd(s.Writable)); err != nil {
			_ = unix.Close(fd)
			return err
		}
		return nil
	})
	return fd, err
}

// writable says why an overlay cannot be written to. The kernel makes it read-only, without
// an error, when it cannot make directories of its own below work.
func writable(overlay, layer int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(overlay, &st); err != nil || st.Flags&unix.ST_RDONLY == 0 {
		return err
	}
	const probe = "work/probe"
	err := unix.Mkdirat(layer, probe, 0o700)
	if err == nil {
		_ = unix.Unlinkat(layer, probe, unix.AT_REMOVEDIR)
		err = unix.EROFS
	}
	return errs.Wrap("make directories of the overlay", "", err)
}

// overlayAttached makes the overlay while its parts are mounted in a namespace that nobody
// else sees. The overlay has clones of its own of them, and is itself detached, so it
// outlives that namespace. The parts do not: they are left mounted nowhere.
func (h *host) overlayAttached(s plan.Overlay, parts []plan.Handle) (fd int, err error) {
	err = detached.Aside(func() error {
		for _, a := range parts {
			if err := detached.Hang(h.fd(a)); err != nil {
				return errs.Wrap("mount", string(a), err)
			}
		}
		fd, err = h.overlayOn(s)
		return err
	})
	return fd, err
}
