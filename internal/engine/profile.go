package engine

import (
	"context"
	"os"
	"os/exec"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/lsm"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/spec"
)

// profileFile is where distributions look for the profiles that they load at boot, and make
// install puts ours.
const profileFile = "/etc/apparmor.d/" + spec.DefaultProfile

// loadProfile has the kernel load the profile of containers if it is installed and whoever
// loads profiles at boot has not done so. Starts do not: that would cost each of them a look,
// and one of them a tenth of a second.
func loadProfile(ctx context.Context) error {
	if on, _ := lsm.AppArmor(); !on || nest.Inside() {
		return nil
	}
	if mode, err := lsm.Profile(spec.DefaultProfile); err != nil || mode != "" {
		return nil // corten doctor tells what cannot be found out
	}
	if _, err := os.Stat(profileFile); err != nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, "/sbin/apparmor_parser", "--replace", profileFile).CombinedOutput()
	if err != nil {
		return errs.Newf(errs.KindOf(err), "load profile", profileFile, strings.TrimSpace(err.Error()+": "+string(out))).
			WithHint("containers run without it until apparmor_parser -r " + profileFile + " succeeds")
	}
	return nil
}
