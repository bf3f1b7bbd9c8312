// Package about is what there is to know of this host: the machine, and what keeps containers
// apart on it. Names are Docker's where it has the same. It is read anew each time; what cannot be
// found out is left empty.
package about

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel/probe"
	"github.com/cortenhq/corten/internal/spec"
)

// Host is the machine.
type Host struct {
	Name            string // of the host
	OperatingSystem string
	OSType          string // "linux"
	KernelVersion   string
	Architecture    string // as uname(1) has it
	NCPU            int    // that this process may use
	MemTotal        int64  // bytes
}

// Guard is what keeps containers apart.
type Guard struct {
	CgroupVersion   string // "1", "2" or "hybrid"; empty: there are no control groups
	CgroupDriver    string
	SecurityOptions []string // what there is here of what Corten can use
	SecurityModules []string // active in the kernel
	DefaultSeccomp  string
}

// ThisHost looks at the machine.
func ThisHost() Host {
	h := Host{OperatingSystem: osName(), OSType: runtime.GOOS, Architecture: runtime.GOARCH, NCPU: runtime.NumCPU()}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		h.Name = unix.ByteSliceToString(uts.Nodename[:])
		h.KernelVersion = unix.ByteSliceToString(uts.Release[:])
		h.Architecture = unix.ByteSliceToString(uts.Machine[:])
	}
	var sys unix.Sysinfo_t
	if unix.Sysinfo(&sys) == nil {
		h.MemTotal = int64(uint64(sys.Totalram) * uint64(sys.Unit))
	}
	return h
}

// osName is what os-release(5) calls this system for people.
func osName() string {
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(l), "PRETTY_NAME="); ok {
				return strings.Trim(v, `"'`)
			}
		}
	}
	return ""
}

// Guards looks at what keeps containers apart; there answers for the features of package probe.
func Guards(there func(feature string) probe.Answer) Guard {
	g := Guard{CgroupDriver: "cgroupfs", DefaultSeccomp: "builtin"}
	mode, _ := probe.CgroupMode()
	g.CgroupVersion = strings.TrimPrefix(mode, "v")
	for _, o := range []struct{ feature, option string }{
		{"AppArmor", "name=apparmor,profile=" + spec.DefaultProfile},
		{"SELinux", "name=selinux"},
		{"seccomp", "name=seccomp,profile=builtin"},
		{"user namespace", "name=userns"},
		{"cgroup namespace", "name=cgroupns"},
		{"no_new_privs", "name=no-new-privileges"},
	} {
		if there(o.feature) == probe.Yes {
			g.SecurityOptions = append(g.SecurityOptions, o.option)
		}
	}
	g.SecurityModules, _ = probe.Modules()
	return g
}
