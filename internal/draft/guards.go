package draft

import (
	"path/filepath"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/lsm"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/seccomp"
	"github.com/cortenhq/corten/internal/spec"
)

// Modules is what is known of the host for every process of a container. It asks for the security modules
// that a container has labels for, and refuses one that
// is not there.
func Modules(sec spec.Security) (f plan.Facts, err error) {
	f.Nested, f.Alone = nest.Inside(), nest.Single()
	if sec.AppArmor != "" && sec.AppArmor != spec.NoProfile {
		if f.AppArmor, _ = lsm.AppArmor(); !f.AppArmor {
			return f, noModule("apparmor=" + sec.AppArmor)
		}
	}
	if sec.SELinux != "" || sec.SELinuxMount != "" {
		if f.SELinux, _ = lsm.SELinux(); !f.SELinux {
			return f, noModule("label of SELinux")
		}
	}
	return f, nil
}

func noModule(what string) error {
	return errs.Newf(errs.Unsupported, "apply --security-opt", what, "the security module is not active on this host").
		WithHint("leave the option out, or boot with the module: corten doctor says how")
}

// Filter compiles the seccomp profile of a container, or finds it compiled; nil if it has none.
// Compiled ones are kept in the state folder run.
func Filter(run string, sec spec.Security) (*plan.Filter, error) {
	if sec.Unconfined || sec.Privileged {
		return nil, nil
	}
	dir := filepath.Join(run, "seccomp")
	name, prog, err := "default", seccomp.Program{}, error(nil)
	if sec.Seccomp == nil {
		prog, err = seccomp.DefaultCached(dir, sec.Capabilities, seccomp.Host)
	} else {
		name = "of the user"
		prog, err = seccomp.Cached(dir, sec.Seccomp, seccomp.Host)
	}
	if err != nil {
		return nil, err
	}
	if prog.Notify() {
		return nil, errs.Newf(errs.Unsupported, "use seccomp profile", "", "SCMP_ACT_NOTIFY is for containers of bundles").
			WithHint("corten-oci hands such filters over to an agent; take that action out of the profile")
	}
	return prog.Filter(name), nil
}
