package detached

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// UserNS makes a user namespace with the given maps of ids. There has to be a process to make it in: it is stopped
// before its first instruction (ptrace(2), PTRACE_TRACEME), and killed.
func UserNS(maps []spec.IDMap) (*os.File, error) {
	var list []syscall.SysProcIDMap
	for _, m := range maps {
		list = append(list, syscall.SysProcIDMap{ContainerID: int(m.Container), HostID: int(m.Host), Size: int(m.Size)})
	}
	p, err := os.StartProcess("/proc/self/exe", []string{"corten"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: list, GidMappings: list, Ptrace: true, Pdeathsig: unix.SIGKILL}})
	if err != nil {
		return nil, errs.Wrap("make user namespace", "", err)
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(p.Pid) + "/ns/user")
	_ = p.Kill()
	_, _ = p.Wait()
	return ns, errs.Wrap("make user namespace", "", err)
}
