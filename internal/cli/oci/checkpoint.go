package oci

import (
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle/life"
	"github.com/cortenhq/corten/internal/criu"
	"github.com/cortenhq/corten/internal/errs"
)

// imagingFlags are those of checkpoint and restore.
func imagingFlags(f *pflag.FlagSet) {
	f.String("image-path", "", "the folder of the images; ./checkpoint if none is named")
	f.String("work-path", "", "the folder of criu's log; that of the images if none is named")
	f.Bool("tcp-established", false, "TCP connections that are open, too")
	f.Bool("ext-unix-sk", false, "Unix sockets that others have the other end of, too")
	f.Bool("shell-job", false, "a container in the session of a terminal of the host, too")
	f.Bool("file-locks", false, "locks of files, too")
	f.String("manage-cgroups-mode", "soft", "control groups that the container made in its own: left out (soft, ignore), or made again by criu (full, strict)")
	f.String("empty-ns", "", "network: make a network namespace with nothing in it")
	f.Bool("auto-dedup", false, "write and keep no page of memory twice")
	f.Bool("lazy-pages", false, "bring pages of memory when they are used, by criu lazy-pages")
}

func checkpointFlags(f *pflag.FlagSet) {
	imagingFlags(f)
	f.String("parent-path", "", "the folder of a pre-dump, relative to that of the images")
	f.Bool("leave-running", false, "let the container go on")
	f.Bool("tcp-skip-in-flight", false, "leave TCP connections out that are being made")
	f.Bool("link-remap", false, "files that have no name any more but another, too")
	f.Int("status-fd", -1, "a descriptor that takes a zero byte when criu is ready for lazy-pages")
	f.String("page-server", "", "ADDRESS:PORT of a criu page-server that takes the memory")
	f.Bool("pre-dump", false, "write memory alone, and let the container go on")
}

func restoreFlags(f *pflag.FlagSet) {
	imagingFlags(f)
	f.StringP("bundle", "b", ".", "the folder of the bundle")
	f.BoolP("detach", "d", false, "do not wait for its end")
	f.String("console-socket", "", "a Unix socket that takes the container's terminal")
	f.String("pid-file", "", "a file for the number of the container's first process")
	f.Bool("no-subreaper", false, "nothing: no process of corten-oci is one")
	f.Bool("no-pivot", false, "not there: criu changes the root by pivot_root")
	f.String("lsm-profile", "", "TYPE:NAME, a profile of AppArmor or SELinux in the place of the one that it had")
	f.String("lsm-mount-context", "", "a label of SELinux for its mounts")
}

// imagingOf reads the flags of both.
func imagingOf(f *pflag.FlagSet) (i life.Imaging, err error) {
	i.Images, _ = f.GetString("image-path")
	if i.Images == "" {
		i.Images = "checkpoint"
	}
	if i.Images, err = filepath.Abs(i.Images); err != nil {
		return i, errs.Wrap("find folder of images", "", err)
	}
	if i.Work, _ = f.GetString("work-path"); i.Work == "" {
		i.Work = i.Images
	}
	if i.Work, err = filepath.Abs(i.Work); err != nil {
		return i, errs.Wrap("find folder of the log", "", err)
	}
	for name, to := range map[string]*bool{"tcp-established": &i.Allow.TCP, "ext-unix-sk": &i.Allow.UnixSockets, "shell-job": &i.Allow.Shell,
		"file-locks": &i.Allow.FileLocks, "auto-dedup": &i.Memory.Dedup, "lazy-pages": &i.Memory.Lazy} {
		*to, _ = f.GetBool(name)
	}
	mode, _ := f.GetString("manage-cgroups-mode")
	groups, ok := map[string]criu.Groups{"soft": criu.IgnoreGroups, "ignore": criu.IgnoreGroups, "": criu.IgnoreGroups, "full": criu.FullGroups, "strict": criu.StrictGroups}[mode]
	if !ok {
		return i, errs.Newf(errs.Invalid, "use --manage-cgroups-mode", mode, "there is none of this name").WithHint("soft, full, strict or ignore")
	}
	i.Groups = groups
	switch ns, _ := f.GetString("empty-ns"); ns {
	case "":
	case "network", "net":
		i.NoNet = true
	default:
		return i, errs.Newf(errs.Unsupported, "use --empty-ns", ns, "criu knows it of networks alone").WithHint("network")
	}
	return i, nil
}

func checkpoint(c *command, f *pflag.FlagSet, args []string) error {
	i, err := imagingOf(f)
	if err != nil {
		return err
	}
	x := life.Checkpoint{Imaging: i}
	x.Parent, _ = f.GetString("parent-path")
	x.Pre, _ = f.GetBool("pre-dump")
	for name, to := range map[string]*bool{"leave-running": &x.Allow.LeaveRunning, "tcp-skip-in-flight": &x.Allow.TCPSkipInFlight, "link-remap": &x.Allow.LinkRemap} {
		*to, _ = f.GetBool(name)
	}
	if filepath.IsAbs(x.Parent) {
		return errs.Newf(errs.Invalid, "use --parent-path", x.Parent, "it is absolute").WithHint("name it relative to --image-path")
	}
	if server, _ := f.GetString("page-server"); server != "" {
		host, port, err := net.SplitHostPort(server)
		if err == nil {
			x.Memory.Port, err = strconv.Atoi(port)
		}
		if err != nil || net.ParseIP(host) == nil {
			return errs.Newf(errs.Invalid, "use --page-server", server, "it is no address").WithHint("write ADDRESS:PORT, in numbers")
		}
		x.Memory.Server = host
	}
	if fd, _ := f.GetInt("status-fd"); fd >= 0 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return errs.New(errs.Invalid, "use --status-fd", strconv.Itoa(fd), err).WithHint("it has to be open")
		}
		unix.CloseOnExec(fd)
		x.Memory.Status = os.NewFile(uintptr(fd), "status")
	}
	return life.Image(c.ctx, c.root, args[0], x, c.warn)
}

func restore(c *command, f *pflag.FlagSet, args []string) error {
	i, err := imagingOf(f)
	if err != nil {
		return err
	}
	if on, _ := f.GetBool("no-pivot"); on {
		return errs.Newf(errs.Unsupported, "use --no-pivot", "", "criu changes the root by pivot_root").WithHint("leave it out")
	}
	x := life.Restoring{Request: life.Request{Root: c.root, ID: args[0], Systemd: c.systemd, Warn: c.warn}, Imaging: i}
	x.Bundle, _ = f.GetString("bundle")
	x.Console, _ = f.GetString("console-socket")
	x.PIDFile, _ = f.GetString("pid-file")
	x.Labels.Profile, _ = f.GetString("lsm-profile")
	x.Labels.Mount, _ = f.GetString("lsm-mount-context")
	detach, _ := f.GetBool("detach")
	x.Stays = !detach
	proc, err := life.Restore(c.ctx, x)
	if err != nil || detach {
		return err
	}
	status, err := c.attend(proc, proc.Terminal)
	if err != nil {
		return err
	}
	c.code = codeOf(status)
	return proc.Remove(c.ctx, c.warn)
}
