package compile

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/launch/numbers"
	"github.com/cortenhq/corten/internal/launch/rows"
	"github.com/cortenhq/corten/internal/plan/bundled"
)

// remount changes what is mounted at a path of the container: its file system by fspick(2) (Linux
// 5.2), which leaves alone what is not said, then the mount.
func (c *Program) remount(s bundled.Remount) {
	at := c.Result(c.inRoot(strings.Trim(s.Path, "/"), unix.O_PATH))
	if s.Reconfigure {
		fs := c.Result(c.Call(unix.SYS_FSPICK, at, c.Text(""), c.Num(unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)))
		options := s.Options
		for _, o := range s.Set {
			if o == "ro" {
				options = append([]string{"ro"}, options...)
			}
		}
		for _, o := range s.Clear {
			if o == "ro" {
				options = append([]string{"rw"}, options...)
			}
		}
		c.configure(fs, options)
		c.Call(unix.SYS_FSCONFIG, fs, c.Num(unix.FSCONFIG_CMD_RECONFIGURE))
		c.Call(unix.SYS_CLOSE, fs)
	}
	for _, x := range []struct {
		set, clear []string
		flags      uintptr
	}{{s.Set, s.Clear, 0}, {s.SetAll, s.ClearAll, unix.AT_RECURSIVE}} {
		if len(x.set)+len(x.clear) > 0 {
			attr := numbers.Change(x.set, x.clear)
			c.Call(unix.SYS_MOUNT_SETATTR, at, c.Text(""), c.Num(unix.AT_EMPTY_PATH|x.flags), rows.Point(c.Table, &attr), c.Num(unix.MOUNT_ATTR_SIZE_VER0))
		}
	}
}

// moveRoot hides what the host's tree has of kernel file systems, which then can only be reached by who
// may leave the root again, and mounts the root over it.
func (c *Program) moveRoot() {
	c.Call(unix.SYS_FCHDIR, c.root)
	for _, dir := range []string{"/proc", "/sys"} {
		c.Call(unix.SYS_UMOUNT2, c.Text(dir), c.Num(unix.MNT_DETACH)).Tolerate(0, unix.ENOENT, unix.EINVAL, unix.EPERM)
		c.Call(unix.SYS_MOUNT, c.Text("none"), c.Text(dir), c.Text("tmpfs"), c.Num(unix.MS_RDONLY), c.Text("size=4k")).Tolerate(0, unix.ENOENT)
	}
	c.Call(unix.SYS_MOVE_MOUNT, c.root, c.Text(""), c.cwd(), c.Text("/"), c.Num(unix.MOVE_MOUNT_F_EMPTY_PATH)).Tolerate(0, unix.ELOOP)
	c.Call(unix.SYS_CHROOT, c.Text("."))
}
