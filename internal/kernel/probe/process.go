package probe

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

func namespaces() []feature {
	return []feature{
		{"user namespace", "gives a container a root that is nobody on the host",
			"containers run with the host's own ids (--userns host)",
			"CONFIG_USER_NS; sysctl user.max_user_namespaces above 0; for ordinary users also kernel.unprivileged_userns_clone=1 (Debian) or kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)",
			needed, namespace("user", unix.CLONE_NEWUSER)},
		{"mount namespace", "gives a container its own view of files", "no container starts",
			"CONFIG_NAMESPACES; sysctl user.max_mnt_namespaces above 0", needed, namespace("mnt", unix.CLONE_NEWNS)},
		{"pid namespace", "hides the host's processes", "containers start with --pid host only",
			"CONFIG_PID_NS; sysctl user.max_pid_namespaces above 0", needed, namespace("pid", unix.CLONE_NEWPID)},
		{"network namespace", "hides the host's network", "containers start with --network host only",
			"CONFIG_NET_NS; sysctl user.max_net_namespaces above 0", needed, namespace("net", unix.CLONE_NEWNET)},
		{"ipc namespace", "keeps shared memory and message queues apart", "containers start with --ipc host only",
			"CONFIG_IPC_NS; sysctl user.max_ipc_namespaces above 0", needed, namespace("ipc", unix.CLONE_NEWIPC)},
		{"uts namespace", "gives a container a host name", "containers start with --uts host only",
			"CONFIG_UTS_NS; sysctl user.max_uts_namespaces above 0", needed, namespace("uts", unix.CLONE_NEWUTS)},
		{"cgroup namespace", "hides where in the host's control groups a container is", "containers start with --cgroupns host only",
			"CONFIG_CGROUPS (Linux 4.6); sysctl user.max_cgroup_namespaces above 0", needed, namespace("cgroup", unix.CLONE_NEWCGROUP)},
		{"time namespace", "sets a container's clocks of uptime (--time-offset)", "--time-offset is refused",
			"CONFIG_TIME_NS (Linux 5.6); sysctl user.max_time_namespaces above 0", used, namespace("time", unix.CLONE_NEWTIME)},
		{"time namespace at exec", "lets the process that makes a time namespace enter it by its exec", "--time-offset has no effect on the first process",
			"Linux 6.2", used, timeAtExec},
	}
}

// namespace makes one, in a child that ends at once. An ordinary user may do that inside a
// user namespace only. A user namespace counts if it gives its maker capabilities, so it is
// asked for another one inside it.
func namespace(name string, flag int) func(*host) finding {
	return func(h *host) finding {
		if _, err := os.Stat("/proc/self/ns/" + name); err != nil {
			return no("this kernel has none")
		}
		spec := kernel.ChildSpec{Flags: uint64(flag)}
		switch {
		case flag == unix.CLONE_NEWUSER:
			spec.Unshare = unix.CLONE_NEWUTS
		case !h.root:
			spec = kernel.ChildSpec{Flags: unix.CLONE_NEWUSER, Unshare: flag}
		}
		c, err := kernel.StartChild(spec)
		if err != nil {
			return h.namespaceRefused(name, err)
		}
		defer c.Close()
		err = c.Wait()
		switch err {
		case unix.EPERM, unix.EACCES:
			if flag == unix.CLONE_NEWUSER {
				return no("it is made without capabilities" + sysctls("kernel.apparmor_restrict_unprivileged_userns"))
			}
		case unix.ENOSPC, unix.EUSERS:
			return no("a limit is reached" + sysctls("user.max_"+name+"_namespaces"))
		}
		return h.judge(err)
	}
}

func (h *host) namespaceRefused(name string, err error) finding {
	if h.root || name == "user" {
		switch err {
		case unix.ENOSPC, unix.EUSERS:
			return no("a limit is reached" + sysctls("user.max_"+name+"_namespaces"))
		case unix.EPERM:
			return no(words(err) + sysctls("kernel.unprivileged_userns_clone", "user.max_user_namespaces", "kernel.apparmor_restrict_unprivileged_userns"))
		}
		return h.judge(err)
	}
	return unknown("only root, or a user namespace, can tell")
}

// sysctls shows those of the sysctls that there are.
func sysctls(names ...string) string {
	var b strings.Builder
	for _, n := range names {
		if v, err := line("/proc/sys/" + strings.ReplaceAll(n, ".", "/")); err == nil {
			b.WriteString("; " + n + " is " + v)
		}
	}
	return b.String()
}

// timeAtExec makes a time namespace in a new process and looks whether its exec entered it.
// What is executed is this program, stopped by ptrace before its first instruction.
func timeAtExec(h *host) finding {
	const ns = "/ns/time"
	ours, err := os.Readlink("/proc/self" + ns)
	if err != nil {
		return no("this kernel has no time namespaces")
	}
	attr := &syscall.SysProcAttr{Ptrace: true, Unshareflags: unix.CLONE_NEWTIME}
	if !h.root {
		attr.Cloneflags = unix.CLONE_NEWUSER
	}
	return apart(func() finding {
		pid, err := syscall.ForkExec("/proc/self/exe", []string{"probe"}, &syscall.ProcAttr{Sys: attr})
		if err != nil {
			return unknown(words(err))
		}
		var ws unix.WaitStatus
		_, err = unix.Wait4(pid, &ws, 0, nil) // stopped now, or killed by somebody
		if err == nil && !ws.Exited() && !ws.Signaled() {
			theirs, lerr := os.Readlink("/proc/" + strconv.Itoa(pid) + ns)
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, &ws, 0, nil)
			switch {
			case lerr != nil:
				return unknown(words(lerr))
			case theirs == ours:
				return no("the process stayed in the old one")
			}
			return yes("")
		}
		return unknown("the process was gone before it could be seen")
	})
}

func processes() []feature {
	return []feature{
		{"clone3", "makes a container's first process in one call, with no signal handler of Corten left in it", "no container starts",
			"Linux 5.5 (CLONE_CLEAR_SIGHAND); a seccomp filter around Corten must let clone3 pass", needed, clearHandlers},
		{"clone into cgroup", "puts a process under its limits from its first instruction", "limits of cgroup v2 begin a moment after the process",
			"Linux 5.7, cgroup v2", used, cloneIntoCgroup},
		{"pidfd", "watches and signals processes without mistaking a reused number", "no container starts",
			"Linux 5.4", needed, pidfd},
		{"pidfd exit status", "learns the exit status of a process that is not a child", "the exit status is lost when a container's keeper is killed",
			"Linux 6.15", later, pidfdExit},
		{"close_range", "closes every descriptor that is not meant for the container", "no container starts",
			"Linux 5.9; a seccomp filter around Corten must let close_range pass", needed, closeRange},
		{"openat2", "resolves paths inside a container's root without being led out of it", "no container starts",
			"Linux 5.6; a seccomp filter around Corten must let openat2 pass", needed, openat2},
	}
}

func clearHandlers(*host) finding {
	return child(kernel.ChildSpec{Flags: unix.CLONE_CLEAR_SIGHAND})
}

// child makes one that ends at once.
func child(s kernel.ChildSpec) finding {
	c, err := kernel.StartChild(s)
	if err != nil {
		return judge(err)
	}
	defer c.Close()
	return judge(c.Wait())
}

// cloneIntoCgroup goes into a group of the probes' own. Where there can be none, the kernel
// is asked to use what is no group: one that knows the flag says EBADF.
func cloneIntoCgroup(h *host) finding {
	dir, err := h.group()
	if err != nil {
		null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return unknown(words(err))
		}
		defer unix.Close(null)
		f := child(kernel.ChildSpec{Flags: unix.CLONE_INTO_CGROUP, Cgroup: null})
		if f.answer == No && f.detail == words(unix.EBADF) {
			return yes("the kernel knows it")
		}
		return f
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return unknown(words(err))
	}
	defer unix.Close(fd)
	return child(kernel.ChildSpec{Flags: unix.CLONE_INTO_CGROUP, Cgroup: fd})
}

func pidfd(*host) finding {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return judge(err)
	}
	defer unix.Close(self)
	if err := unix.PidfdSendSignal(self, 0, nil, 0); err != nil {
		return judge(err)
	}
	return child(kernel.ChildSpec{}) // waits with P_PIDFD
}

// pidfdExit asks for the status of a child after it was reaped.
func pidfdExit(*host) finding {
	const wanted = unix.PIDFD_INFO_EXIT
	c, err := kernel.StartChild(kernel.ChildSpec{})
	if err != nil {
		return judge(err)
	}
	defer c.Close()
	if err := c.Wait(); err != nil {
		return judge(err)
	}
	info := unix.PidfdInfo{Mask: wanted}
	if err := unix.IoctlPidfdInfo(c.Pidfd, &info); err != nil {
		return judge(err)
	}
	if info.Mask&wanted == 0 {
		return no("the kernel tells other things about a process, but not this")
	}
	return yes("")
}

// closeRange closes numbers that no descriptor has.
func closeRange(*host) finding {
	const last = ^uint(0) >> 32
	return apart(func() finding {
		if err := unix.CloseRange(last-1, last, 0); err != nil {
			return judge(err)
		}
		return judge(unix.CloseRange(last-1, last, unix.CLOSE_RANGE_UNSHARE))
	})
}

func openat2(*host) finding {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err == nil {
		unix.Close(fd)
	}
	return judge(err)
}
