package life

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/lsm"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/seccomp"
	"github.com/cortenhq/corten/internal/spec"
)

// filter compiles the seccomp profile, or finds it compiled; nil if there is none. Compiled ones are
// kept in a folder that is no container's.
func filter(root string, sec spec.Security) (*plan.Filter, error) {
	if sec.Unconfined {
		return nil, nil
	}
	prog, err := seccomp.Cached(filepath.Join(root, "seccomp,cache"), sec.Seccomp, seccomp.Host)
	if err != nil {
		return nil, err
	}
	f := prog.Filter("of config.json")
	if prog.Notify() {
		f.Listener = sec.Seccomp.ListenerPath
	}
	return f, nil
}

// modules is what is known of the host: security modules that a label is wanted of have to be there.
func modules(sec spec.Security) (f plan.Facts, err error) {
	f.Nested = nest.Owner() >= 0
	groups, _ := os.ReadFile("/proc/self/setgroups")
	f.Alone = strings.TrimSpace(string(groups)) == "deny"
	if sec.AppArmor != "" && sec.AppArmor != spec.NoProfile {
		if f.AppArmor, _ = lsm.AppArmor(); !f.AppArmor {
			return f, noModule("process.apparmorProfile", sec.AppArmor)
		}
	}
	if label := sec.SELinux + sec.SELinuxMount; label != "" {
		if f.SELinux, _ = lsm.SELinux(); !f.SELinux {
			return f, noModule("process.selinuxLabel and linux.mountLabel", label)
		}
	}
	return f, nil
}

func noModule(what, label string) error {
	return errs.Newf(errs.Unsupported, "use "+what, label, "the security module is not active on this host").
		WithHint("leave it out of config.json, or boot with the module")
}
