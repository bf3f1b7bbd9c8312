package probe

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/kernel/lsm"
	"github.com/cortenhq/corten/internal/spec"
)

func security() []feature {
	return []feature{
		{"seccomp", "keeps system calls from containers that they have no use for", "containers start with --security-opt seccomp=unconfined only",
			"CONFIG_SECCOMP_FILTER", needed, seccomp(0)},
		{"seccomp notification", "has a system call decided by a program outside", "profiles that notify are refused",
			"Linux 5.0; no other listener around Corten", later, seccomp(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)},
		{"no_new_privs", "makes set-user-id programs harmless", "no container starts with default flags", "Linux 3.5", needed, noNewPrivs},
		{"Landlock", "keeps Corten's own helpers from files that are not their business", "helpers may open what their user may",
			"CONFIG_SECURITY_LANDLOCK (Linux 5.13), landlock in the boot parameter lsm=", later, landlock},
		{"AppArmor", "puts a profile around each container", "containers run without a profile; user namespace, capabilities and seccomp remain",
			"CONFIG_SECURITY_APPARMOR, boot parameters apparmor=1 security=apparmor, package apparmor; then the profile, once: apparmor_parser -r /etc/apparmor.d/" +
				spec.DefaultProfile + " (make install puts it there, and corten boot loads it too)", used, appArmor},
		{"SELinux", "labels each container and its files", "containers run without labels; user namespace, capabilities and seccomp remain",
			"CONFIG_SECURITY_SELINUX, boot parameters selinux=1 security=selinux, a policy with container types (package container-selinux)", used, selinux},
		{"BPF LSM", "lets tools watch and refuse what containers do", "such tools do not work; Corten itself does",
			"CONFIG_BPF_LSM (Linux 5.7), bpf in the boot parameter lsm=", later, bpfLSM},
		{"keyrings", "gives each container a session keyring of its own", "containers of one user find each other's keys",
			"CONFIG_KEYS; a seccomp filter around Corten must let keyctl pass", used, keyrings},
		{"Yama", "keeps processes of one user from tracing each other", "a process of an ordinary user may trace others of that user",
			"CONFIG_SECURITY_YAMA, sysctl kernel.yama.ptrace_scope=1", used, yama},
		{"no BPF for ordinary users", "keeps the verifier's faults from whoever may log in", "ordinary users may load BPF programs; containers may not, seccomp keeps bpf from them",
			"sysctl kernel.unprivileged_bpf_disabled=2", used, noBPF},
	}
}

// AppArmor tells whether AppArmor is active. It reads one file.
func AppArmor() Answer { return answer(lsm.AppArmor()) }

// SELinux tells whether SELinux is active, enforcing or not.
func SELinux() Answer { return answer(lsm.SELinux()) }

func answer(there bool, err error) Answer {
	switch {
	case err != nil:
		return Unknown
	case there:
		return Yes
	}
	return No
}

// seccomp puts a filter that allows everything on a thread.
func seccomp(flags uint) func(*host) finding {
	return func(*host) finding {
		return apart(func() finding {
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				return judge(err)
			}
			fd, err := kernel.SeccompAllow(flags)
			if err == nil && flags != 0 {
				unix.Close(fd)
			}
			if errno(err) == unix.EBUSY {
				return no("a filter around Corten has a listener, and there can be but one")
			}
			return judge(err)
		})
	}
}

func noNewPrivs(*host) finding {
	return apart(func() finding {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return judge(err)
		}
		v, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		if err == nil && v != 1 {
			return no("it was set and is not")
		}
		return judge(err)
	})
}

func landlock(*host) finding {
	v, err := kernel.Landlock()
	switch {
	case errno(err) == unix.EOPNOTSUPP:
		return no("it is built in, and off since boot")
	case err != nil:
		return judge(err)
	}
	return yes("ABI " + strconv.Itoa(v))
}

func appArmor(*host) finding {
	switch a := AppArmor(); {
	case a == No && SELinux() == Yes:
		return no("not active").or("SELinux")
	case a == No:
		return no("not active")
	case a == Unknown:
		return unknown("its state cannot be read")
	}
	switch mode, err := lsm.Profile(spec.DefaultProfile); {
	case err != nil:
		return unknown("active; its profiles cannot be listed: " + words(err))
	case mode == "":
		return no("active, but the profile " + spec.DefaultProfile + " is not loaded")
	default:
		return yes("the profile " + spec.DefaultProfile + " is loaded: " + mode)
	}
}

func selinux(*host) finding {
	s, err := line("/sys/fs/selinux/enforce")
	switch {
	case err == nil && s == "1":
		return yes("enforcing")
	case err == nil:
		return yes("permissive: it reports and does not refuse")
	case !errors.Is(err, fs.ErrNotExist):
		return unknown(words(err))
	case AppArmor() == Yes:
		return no("not active").or("AppArmor")
	}
	return no("not active")
}

func bpfLSM(h *host) finding {
	active, err := Modules()
	if err != nil {
		return unknown("the list of security modules cannot be read: " + words(err))
	}
	for _, m := range active {
		if m == "bpf" {
			return yes("")
		}
	}
	return no("active are " + strings.Join(active, ", "))
}

// Modules are the names of the active security modules, as the boot parameter lsm= has
// them. Before Linux 6.8 they are known if securityfs is mounted.
func Modules() ([]string, error) {
	if s, err := line("/sys/kernel/security/lsm"); err == nil {
		return strings.Split(s, ","), nil
	}
	ids, err := kernel.SecurityModules()
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, moduleName(id))
	}
	return names, nil
}

// moduleName is the name of an LSM_ID_*, <linux/lsm.h>.
func moduleName(id uint64) string {
	const first = 100
	names := [...]string{"capability", "selinux", "smack", "tomoyo", "apparmor", "yama", "loadpin", "safesetid",
		"lockdown", "bpf", "landlock", "ima", "evm", "ipe"}
	if id < first || id-first >= uint64(len(names)) {
		return strconv.FormatUint(id, 10)
	}
	return names[id-first]
}

// keyrings gives a thread a session keyring of its own.
func keyrings(*host) finding {
	return apart(func() finding {
		_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
		return judge(err)
	})
}

func yama(*host) finding {
	s, err := line("/proc/sys/kernel/yama/ptrace_scope")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return no("not active")
	case err != nil:
		return unknown(words(err))
	case s == "0":
		return no("switched off" + sysctls("kernel.yama.ptrace_scope"))
	}
	return yes("scope " + s)
}

func noBPF(*host) finding {
	s, err := line("/proc/sys/kernel/unprivileged_bpf_disabled")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return yes("this kernel has no BPF")
	case err != nil:
		return unknown(words(err))
	case s == "0":
		return no("they may")
	}
	return yes("")
}
