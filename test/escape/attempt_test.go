package escape_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mode is a sort of container, or several.
type mode uint16

const (
	plain      mode = 1 << iota // no flags at all
	noInit                      // the attacker is PID 1
	user                        // not root, and set-user-id programs work
	unfiltered                  // no system call filter
	unmasked                    // nothing of /proc and /sys hidden or read-only
	caps                        // all capabilities
	loose                       // no protection but the user namespace
	shared                      // the same, in the host's namespaces
	rootful                     // root is the host's root, with all privileges
	hostlike                    // the same, in the host's namespaces
	bare                        // no container: the host's root

	usual      = plain | noInit | user
	everywhere = usual | unfiltered | unmasked | caps | loose
)

// flags are those of each mode.
var flags = map[mode][]string{
	plain:      {},
	noInit:     {"--no-init"},
	user:       {"--user", "1000:1000", "--security-opt", "no-new-privileges=false"},
	unfiltered: {"--security-opt", "seccomp=unconfined"},
	unmasked:   {"--security-opt", "unmask=ALL"},
	caps:       {"--cap-add", "ALL"},
	loose: {"--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt", "unmask=ALL",
		"--security-opt", "no-new-privileges=false"},
	shared: {"--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt", "unmask=ALL",
		"--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host"},
	// CAP_SYS_RESOURCE is what some machines keep from their root.
	rootful:  {"--userns", "host", "--privileged", "--cap-drop", "SYS_RESOURCE"},
	hostlike: {"--userns", "host", "--privileged", "--cap-drop", "SYS_RESOURCE", "--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host"},
}

func (m mode) String() string {
	return map[mode]string{plain: "plain", noInit: "no-init", user: "user", unfiltered: "unfiltered", unmasked: "unmasked",
		caps: "caps", loose: "loose", shared: "shared", rootful: "rootful", hostlike: "hostlike", bare: "bare"}[m]
}

// attempt is one try.
type attempt struct {
	name  string
	holds mode         // where it has to fail
	opens mode         // where it has to get through
	try   func() error // nil: it got through
}

// attempts is all of them.
func attempts() []attempt {
	return slices.Concat(procAttempts(), initAttempts(), mountAttempts(), deviceAttempts(), kernelAttempts(), identityAttempts(), sharedAttempts())
}

// Exit codes of one attempt.
const (
	through = 0
	held    = 1
	lacking = 3 // the machine does not have what it would take
)

// attack runs attempts and reports on each in a line: NAME, what it came to, why.
func attack(names []string) {
	// What a container's first process got with it, before anything else opens a file.
	inherited := openFiles()
	for _, n := range names {
		if n == "find a descriptor besides 0, 1 and 2" {
			if len(inherited) > 0 {
				fmt.Printf("%s\tthrough\t%v\n", n, inherited)
			} else {
				fmt.Printf("%s\theld\tnone\n", n)
			}
			continue
		}
		out, err := oneByOne(n)
		verdict := "through"
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit) && exit.ExitCode() == held:
			verdict = "held"
		case errors.As(err, &exit) && exit.ExitCode() == lacking:
			verdict = "lacking"
		case err != nil:
			verdict = "died"
			out = append(out, " "+err.Error()...)
		}
		fmt.Printf("%s\t%s\t%s\n", n, verdict, strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", " | "))
	}
	os.Exit(0)
}

// oneByOne runs an attempt in a process of its own, and where it may in mount namespace of its
// own, so that none spoils the next one's field.
func oneByOne(name string) (out []byte, err error) {
	for _, flags := range []uintptr{unix.CLONE_NEWNS, 0} {
		cmd := exec.Command("/proc/self/exe", "one", name)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		var b bytes.Buffer
		cmd.Stdout, cmd.Stderr = &b, &b
		if err = cmd.Start(); err != nil {
			continue
		}
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		err = cmd.Wait()
		return b.Bytes(), err
	}
	return nil, err
}

// one runs one attempt. A signal that it brings on itself counts as held.
func one(name string) {
	for _, a := range attempts() {
		if a.name != name {
			continue
		}
		err := a.try()
		if err == nil {
			os.Exit(through)
		}
		fmt.Println(err)
		for _, lack := range []error{unix.ENOSYS, unix.ENOENT, unix.ENODEV, unix.ENXIO, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT, unix.ENOTBLK} {
			if errors.Is(err, lack) {
				os.Exit(lacking)
			}
		}
		os.Exit(held)
	}
	fmt.Println("no such attempt")
	os.Exit(2)
}

// openFiles is the descriptors from 3 up and what they are.
func openFiles() []string {
	var out []string
	for fd := 3; fd < 4096; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			continue
		}
		what, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		out = append(out, fmt.Sprintf("%d: %s", fd, what))
	}
	return out
}

// verdict is what an attempt came to.
type verdict struct{ word, why string }

// report runs a mode's attempts and reads what they came to.
func (w *world) report(t *testing.T, m mode, base string, names []string) map[string]verdict {
	t.Helper()
	cmd := w.run(flags[m], base, append([]string{"/attack/attack", "attack"}, names...)...)
	if m == bare {
		cmd = exec.Command(w.attack+"/attack", append([]string{"attack"}, names...)...)
		cmd.Env = append(os.Environ(), w.env...)
	}
	return verdicts(t, output(t, cmd))
}

// verdicts reads what the attacker said of its attempts.
func verdicts(t *testing.T, out string) map[string]verdict {
	t.Helper()
	got := map[string]verdict{}
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		if len(f) == 3 {
			got[f[0]] = verdict{f[1], f[2]}
		} else {
			t.Errorf("the attacker said: %s", line)
		}
	}
	return got
}

func TestAttempts(t *testing.T) {
	w := newWorld(t)
	w.victim(t)
	all := attempts()
	before := hostFacts(t)
	for _, base := range bases(t, w) {
		for m := plain; m <= bare; m <<= 1 {
			if base != "host" && m&(plain|user|loose) == 0 {
				continue // an image has another root, and what the other modes change is not in it
			}
			t.Run(base+"/"+m.String(), func(t *testing.T) { w.try(t, m, base, all) })
		}
	}
	if after := hostFacts(t); after != before {
		t.Errorf("the host was\n%s\nand is\n%s", before, after)
	}
}

// try runs in one container what has to fail there and what has to get through.
func (w *world) try(t *testing.T, m mode, base string, all []attempt) {
	var names []string
	for _, a := range all {
		if (a.holds|a.opens)&m != 0 {
			names = append(names, a.name)
		}
	}
	if len(names) == 0 {
		return
	}
	keyring(t)
	got := w.report(t, m, base, names)
	for _, a := range all {
		if (a.holds|a.opens)&m == 0 {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			v, ok := got[a.name]
			switch {
			case !ok:
				t.Fatal("it was not tried")
			case a.holds&m != 0 && v.word == "through":
				t.Errorf("it got through: %s", v.why)
			case a.opens&m != 0 && v.word == "lacking":
				t.Skipf("this machine cannot show that it gets through: %s", v.why)
			case a.opens&m != 0 && v.word != "through":
				t.Errorf("it proves nothing, since it also fails here: %s: %s", v.word, v.why)
			}
			t.Log(v.word, v.why)
		})
	}
}

// hostFacts is what no container may have changed.
func hostFacts(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, f := range []string{"/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/proc/sys/kernel/core_pattern",
		"/proc/sys/kernel/panic", "/proc/sys/net/ipv4/ip_forward", "/proc/swaps"} {
		text, err := os.ReadFile(f)
		fmt.Fprintf(&b, "%s: %s%v\n", f, text, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "corten-escape") {
			b.WriteString(line)
		}
	}
	return b.String()
}
