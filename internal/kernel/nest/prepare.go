package nest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Enter makes sure that this process is in the namespace of the user who runs it, if he is not root. Who
// goes on has to Settle. It may execute the program anew.
func Enter(args []string) error {
	if why := os.Getenv(failed); why != "" {
		text, hint, _ := strings.Cut(why, "\n")
		return errs.Newf(errs.Denied, "", "", text).WithHint(hint)
	}
	if Inside() {
		if verify() {
			return nil
		}
		return os.Unsetenv(variable)
	}
	err := comeIn(args)
	if err != nil { // for a program that takes our place: it may find itself half-way inside
		_ = os.Setenv(failed, err.Error()+"\n"+errs.HintOf(err))
	}
	return err
}

func comeIn(args []string) error {
	uid := os.Getuid()
	switch outcome {
	case spared:
		return nil
	case joined, made:
		_ = os.Unsetenv(again)
		return os.Setenv(variable, strconv.Itoa(int(caller)))
	case notTried:
		if uid == 0 || os.Geteuid() == 0 {
			return nil
		}
		return errs.Newf(errs.Unsupported, op, "", "this program was built without its entry point").
			WithHint("run make, or build with -ldflags=-E=github.com/cortenhq/corten/internal/kernel/nest.entry")
	case refused:
		return refusal(unix.Errno(reason))
	case held:
		return errs.Newf(errs.Busy, op, "", "a process of this user that is in it does not let others in").
			WithHint("stop the containers of this user, or wait until the command that starts one has ended")
	}
	if os.Getenv(again) != "" {
		return errs.Newf(errs.Other, op, "", "the folder "+dir(uid)+" cannot be used").WithHint("remove it, and try again")
	}
	if err := prepare(uid); err != nil {
		return err
	}
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return errs.Wrap(op, "", err)
	}
	return errs.Wrap("execute", self, syscall.Exec(self, args, append(os.Environ(), again+"=1")))
}

const (
	op    = "enter a user namespace"
	again = "CORTEN_NEST_AGAIN"

	failed = "CORTEN_NEST_FAILED" // in the environment of a program that takes our place: why
)

// Settle waits until the ids of the namespace are mapped. Before that files can be read and made as
// the user, but nobody is root: no program may be executed, and no namespace made. Only one goroutine
// at a time may ask.
func Settle() error {
	if !Entered() {
		return nil
	}
	if helper != 0 {
		var st unix.WaitStatus
		_, err := unix.Wait4(int(helper), &st, 0, nil)
		for err == unix.EINTR {
			_, err = unix.Wait4(int(helper), &st, 0, nil)
		}
		helper = 0
		if err != nil || st != 0 {
			return errs.Newf(errs.Denied, "map the ids of this user", "", "newuidmap or newgidmap refused, and said why above").
				WithHint("corten doctor tells what is missing; /etc/subuid and /etc/subgid say which ids a user has")
		}
	}
	if os.Geteuid() != 0 {
		return errs.Newf(errs.Busy, op, "", "its ids are not mapped").WithHint("try again")
	}
	return nil
}

func refusal(errno unix.Errno) error {
	e := errs.New(errs.Denied, op, "", errno)
	switch errno {
	case unix.ENOSPC, unix.EUSERS:
		return e.WithHint("a limit on user namespaces is reached: sysctl user.max_user_namespaces")
	case unix.EPERM, unix.EACCES:
		return e.WithHint("this host does not let ordinary users make user namespaces: see sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns and corten doctor")
	}
	return e.WithHint("corten doctor tells what is missing")
}

// prepare makes the folder of this user with its map file.
func prepare(uid int) error {
	d := dir(uid)
	if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return errs.Wrap("make folder", d, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(d, &st); err != nil || int(st.Uid) != uid || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o077 != 0 {
		return errs.New(errs.Denied, "use folder", d, err).WithHint("it has to be a folder of this user's, closed to others: remove it")
	}
	text, err := mapText(uid)
	if err != nil {
		return err
	}
	tmp := filepath.Join(d, "map.new")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return errs.Wrap("write", tmp, err)
	}
	return errs.Wrap("write", tmp, os.Rename(tmp, filepath.Join(d, "map")))
}

// mapText is the two command lines by which the ids of a user are mapped, without the pid; two empty
// ones if he has no others than his own, or nobody who may map them.
func mapText(uid int) (string, error) {
	programs, err := mappers()
	if err != nil {
		return "", err
	}
	name := nameOf(uid)
	text := ""
	for i, f := range [...]struct {
		path string
		own  int
	}{{"/etc/subuid", uid}, {"/etc/subgid", os.Getgid()}} {
		ranges, err := subordinate(f.path, name, uid)
		if err != nil {
			return "", err
		}
		if len(ranges) == 0 || programs[i] == "" {
			return "\n\n", nil
		}
		text += programs[i] + " 0 " + strconv.Itoa(f.own) + " 1"
		next := uint64(1)
		for _, r := range ranges {
			text += " " + strconv.FormatUint(next, 10) + " " + strconv.FormatUint(r[0], 10) + " " + strconv.FormatUint(r[1], 10)
			next += r[1]
		}
		text += "\n"
	}
	return text, nil
}

// mappers finds newuidmap and newgidmap; empty ones if they are not installed.
func mappers() (found [2]string, err error) {
	for i, name := range [...]string{"newuidmap", "newgidmap"} {
		p, err := exec.LookPath(name)
		if err != nil {
			return [2]string{}, nil
		}
		if found[i], err = filepath.Abs(p); err != nil {
			return found, err
		}
		if strings.ContainsAny(found[i], " \n") {
			return found, errs.Newf(errs.Unsupported, "use", found[i], "there is white space in its path").
				WithHint("have it in a folder of another name first in PATH")
		}
	}
	return found, nil
}

// maxRanges is how many ranges of sub-ids a user has at most that count.
const maxRanges = 16

// subordinate is the ranges of a user in subuid(5) or subgid(5), NAME-OR-NUMBER:FIRST:COUNT.
func subordinate(path, name string, uid int) (ranges [][2]uint64, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, errs.Wrap("read", path, err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != name && f[0] != strconv.Itoa(uid) {
			continue
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 == nil && err2 == nil && count > 0 && len(ranges) < maxRanges {
			ranges = append(ranges, [2]uint64{first, count})
		}
	}
	return ranges, nil
}

// nameOf is the name of a user: of /etc/passwd, or else of wherever the host keeps users.
func nameOf(uid int) string {
	n := strconv.Itoa(uid)
	b, _ := os.ReadFile("/etc/passwd")
	for l := range strings.Lines(string(b)) {
		if f := strings.Split(l, ":"); len(f) > 2 && f[2] == n {
			return f[0]
		}
	}
	if out, err := exec.Command("getent", "passwd", n).Output(); err == nil {
		name, _, _ := strings.Cut(string(out), ":")
		return name
	}
	return n
}
