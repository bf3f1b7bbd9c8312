// Package ordinary finds out what an ordinary user's containers can do here. Package probe answers
// for root; of that an ordinary user is told what concerns him, and besides how far he comes in a
// user namespace of his own. That is tried by another process of ours, which enters it as every
// command does: Try is what it does there.
package ordinary

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/lsm"
	"github.com/cortenhq/corten/internal/kernel/probe"
)

// Revise makes of the answers for root those for an ordinary user. trial is the command line of the
// process that tries.
func Revise(ctx context.Context, all []probe.Result, trial ...string) []probe.Result {
	all = slices.DeleteFunc(all, func(r probe.Result) bool { return r.Answer == probe.Unknown && r.Detail == probe.OnlyRoot })
	var said strings.Builder
	cmd := exec.CommandContext(ctx, trial[0], trial[1:]...)
	cmd.Stderr = &said
	err := cmd.Run()
	if i := slices.IndexFunc(all, func(r probe.Result) bool { return r.Name == "delegation" }); i >= 0 && all[i].Answer == probe.No {
		all[i].Instead = manager()
	}
	return slices.Concat(all, inside(err == nil, said.String(), err), network())
}

// manager is what this user's systemd can do for commands outside of what it was given; empty: there is none.
func manager() string {
	uid := strconv.Itoa(os.Getuid())
	if _, err := os.Stat(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "systemd/private")); err != nil {
		return ""
	}
	b, err := os.ReadFile("/sys/fs/cgroup/user.slice/user-" + uid + ".slice/user@" + uid + ".service/cgroup.controllers")
	if err != nil || len(b) == 0 {
		return ""
	}
	return "a scope by systemd-run, for each command that limits or enters a container, with " + strings.TrimSpace(string(b))
}

// inside is what became of the trial.
func inside(works bool, said string, err error) []probe.Result {
	own := probe.Result{Group: "user", Name: "own user namespace", Needed: true,
		Use:  "makes this user root over the ids that he has, so that he can mount and make containers",
		Lost: "no container of this user starts",
		Get:  "sysctl user.max_user_namespaces above 0; kernel.unprivileged_userns_clone=1 where there is such a setting (old Debian); where AppArmor restricts it (Ubuntu), a profile for corten that allows userns, or kernel.apparmor_restrict_unprivileged_userns=0"}
	overlay := probe.Result{Group: "user", Name: "overlay of users", Needed: true,
		Use:  "puts a container's writable layer over its image without root's rights",
		Lost: "no container of this user starts",
		Get:  "Linux 5.11; a state folder on a local file system with attributes of users"}
	line := firstError(said)
	switch {
	case works:
		own.Answer, overlay.Answer = probe.Yes, probe.Yes
	case strings.HasPrefix(line, trying):
		own.Answer, overlay.Answer, overlay.Detail = probe.Yes, probe.No, line
	default:
		own.Answer, own.Detail, overlay.Detail = probe.No, line, "it could not be tried"
		if line == "" {
			own.Answer, own.Detail = probe.Unknown, "it could not be tried: "+err.Error()
		}
	}
	if on("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") && !works {
		own.Answer = probe.No
		own.Detail += " (kernel.apparmor_restrict_unprivileged_userns is 1)"
	}
	return []probe.Result{own, overlay}
}

func on(path string) bool {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b)) == "1"
}

// firstError is what a command of ours said went wrong.
func firstError(said string) string {
	for line := range strings.Lines(said) {
		if text, ok := strings.CutPrefix(line, "corten: error: "); ok {
			return strings.TrimSpace(text)
		}
	}
	return ""
}

// network is what connects containers of ordinary users.
func network() []probe.Result {
	pasta := probe.Result{Group: "user", Name: "pasta", Use: "connects containers of ordinary users, and publishes their ports",
		Lost: "they have no network but the host's", Get: "package passt"}
	slirp := probe.Result{Group: "user", Name: "slirp4netns", Later: true, Use: "does so where there is no pasta",
		Lost: "pasta is needed", Get: "package slirp4netns"}
	tun := probe.Result{Group: "user", Name: "/dev/net/tun", Use: "is how these programs take what a container sends",
		Lost: "containers of ordinary users have no network but the host's", Get: "module tun; chmod 0666 /dev/net/tun, as udev does it"}
	for _, r := range []*probe.Result{&pasta, &slirp} {
		path, err := exec.LookPath(r.Name)
		if r.Answer, r.Detail = probe.Yes, path; err != nil {
			r.Answer, r.Detail = probe.No, "not installed"
		}
	}
	if mode, _ := lsm.Profile("passt"); mode == "enforce" && pasta.Answer == probe.Yes {
		pasta.Answer, pasta.Detail = probe.Unknown, pasta.Detail+", under a profile of AppArmor: that of Debian 12 keeps it from containers until root removes it: apparmor_parser -R /etc/apparmor.d/usr.bin.passt"
	}
	if pasta.Answer == probe.No && slirp.Answer == probe.Yes {
		pasta.Instead = "slirp4netns, which is slower"
	}
	tun.Answer = probe.Yes
	if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err != nil {
		tun.Answer, tun.Detail = probe.No, err.Error()
	}
	return []probe.Result{pasta, slirp, tun}
}

// trying is the operation of Try's errors.
const trying = "try an overlay of users"

// Try makes an overlay as containers of ordinary users have it, detached, and lets go of it. dir, or
// what there is above it, is on the file system to try.
func Try(dir string) error {
	for dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	tmp, err := os.MkdirTemp(dir, ".probe-")
	if err != nil {
		return errs.Wrap(trying, dir, err)
	}
	defer os.RemoveAll(tmp)
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(tmp, d), 0o755); err != nil {
			return errs.Wrap(trying, tmp, err)
		}
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return errs.Wrap(trying, "", err)
	}
	defer unix.Close(fs)
	err = errors.Join(unix.FsconfigSetString(fs, "lowerdir", tmp+"/lower"), unix.FsconfigSetString(fs, "upperdir", tmp+"/upper"),
		unix.FsconfigSetString(fs, "workdir", tmp+"/work"), unix.FsconfigSetFlag(fs, "userxattr"))
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return errs.Wrap(trying, dir, err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return errs.Wrap(trying, dir, err)
	}
	defer unix.Close(mnt)
	f, err := unix.Openat(mnt, "file", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return errs.Wrap(trying, dir, err)
	}
	return errs.Wrap(trying, dir, unix.Close(f))
}
