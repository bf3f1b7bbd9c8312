package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// Scripts about ordinary users have one that the host does not know: in a mount namespace whose
// files of accounts have him, with sub-ids, and whose /dev/net/tun is open for all as udev makes it.
//
//	user ARGS...         run a command as him, in the host's network; with a ! before it, to fail
//	user -net ARGS...    run it in a network with a default route that leads nowhere
//	user -alone ARGS...  run it in a network without any route
//	user -single ARGS... run it where he has no sub-ids
//
// His home is $WORK/home; what CORTEN_ROOT and CORTEN_RUN say is not handed on.

// account is that user, as long as a script lasts.
type account struct {
	uid    int
	home   string
	worlds map[string]*exec.Cmd // by flag: a process in its namespaces
}

// neededByUsers are the programs that such scripts take.
func neededByUsers() error {
	if os.Geteuid() != 0 {
		return errors.New("root makes the user")
	}
	for _, p := range []string{"newuidmap", "newgidmap", "setpriv", "unshare", "nsenter", "ip"} {
		if _, err := exec.LookPath(p); err != nil {
			return err
		}
	}
	return nil
}

func asUser(ts *testscript.TestScript, neg bool, args []string) {
	a := accountOf(ts)
	flag := ""
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		flag, args = args[0], args[1:]
	}
	if len(args) == 0 {
		ts.Fatalf("usage: user [-net|-alone|-single] COMMAND ARGS...")
	}
	line := a.command(ts, flag, args)
	if err := ts.Exec(line[0], line[1:]...); neg == (err == nil) {
		ts.Fatalf("as a user, %q: %v", args, err)
	}
}

func (a *account) command(ts *testscript.TestScript, flag string, args []string) []string {
	w, ok := a.worlds[flag]
	if !ok {
		var err error
		w, err = a.world(flag)
		ts.Check(err)
		a.worlds[flag] = w
	}
	id := strconv.Itoa(a.uid)
	enter := []string{"nsenter", "-t", strconv.Itoa(w.Process.Pid), "-m"}
	if flag == "-net" || flag == "-alone" {
		enter = append(enter, "-n")
	}
	return append(append(enter, "setpriv", "--reuid", id, "--regid", id, "--clear-groups", "env", "-i", "-C", a.home, "HOME="+a.home,
		"PATH="+os.Getenv(programs)+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR="+a.home+"/run"), args...)
}

// accountOf makes the user of a script. His number is his alone, also if several scripts or tests run.
func accountOf(ts *testscript.TestScript) *account {
	if a, ok := ts.Value(accountKey{}).(*accountSlot); ok && a.account != nil {
		return a.account
	}
	work := ts.MkAbs(".")
	var st unix.Stat_t
	ts.Check(unix.Stat(work, &st))
	a := &account{uid: 200000 + int(st.Ino%1000000), home: filepath.Join(work, "home"), worlds: map[string]*exec.Cmd{}}
	for _, dir := range []string{a.home, a.home + "/run", work + "/etc"} {
		ts.Check(os.MkdirAll(dir, 0o700))
		ts.Check(os.Chown(dir, a.uid, a.uid))
	}
	for dir := work; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		ts.Check(os.Chmod(dir, 0o755)) // he has to get there
	}
	ts.Check(a.files(work + "/etc"))
	ts.Defer(func() { a.leave(ts) })
	ts.Value(accountKey{}).(*accountSlot).account = a
	return a
}

// accountKey is where a script's values have its user.
type accountKey struct{}

type accountSlot struct{ account *account }

// files writes files of accounts with the user in them.
func (a *account) files(dir string) error {
	id := strconv.Itoa(a.uid)
	for name, line := range map[string]string{
		"passwd": "cortentest:x:" + id + ":" + id + "::" + a.home + ":/bin/sh\n", "group": "cortentest:x:" + id + ":\n",
		"subuid": "cortentest:2000000000:65536\n", "subgid": "cortentest:2000000000:65536\n", "none": "",
	} {
		old := []byte(nil)
		if name == "passwd" || name == "group" {
			old, _ = os.ReadFile("/etc/" + name)
		}
		if err := os.WriteFile(filepath.Join(dir, name), append(old, line...), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// world starts a process that keeps the namespaces in which the user's commands run.
func (a *account) world(flag string) (*exec.Cmd, error) {
	etc := filepath.Dir(a.home) + "/etc"
	script := "set -e\nfor f in passwd group; do mount --bind " + etc + "/$f /etc/$f; done\n"
	sub := "$f"
	if flag == "-single" {
		sub = "none"
	}
	script += "for f in subuid subgid; do test -e /etc/$f || >/etc/$f; mount --bind " + etc + "/" + sub + " /etc/$f; done\n" +
		"mkdir -p /dev/net; mount -t tmpfs tmpfs /dev/net; mknod -m 666 /dev/net/tun c 10 200\n"
	args := []string{"-m"}
	if flag == "-alone" {
		args = append(args, "-n")
		script += "ip link set lo up\n"
	}
	if flag == "-net" {
		args = append(args, "-n")
		script += "ip link set lo up; ip link add world type veth peer name nobody; ip link set nobody up; ip addr add 192.0.2.2/24 dev world\n" +
			"ip -6 addr add 2001:db8::2/64 dev world nodad || true\nip link set world up; ip route add default via 192.0.2.1\n" +
			"ip -6 route add default via 2001:db8::1 || true\n"
	}
	cmd := exec.Command("unshare", append(args, "sh", "-c", script+"echo ready; exec cat")...)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // cat ends when we do
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		return nil, fmt.Errorf("the world of an ordinary user cannot be made")
	}
	return cmd, nil
}

// leave ends what the user has left, and his namespaces.
func (a *account) leave(ts *testscript.TestScript) {
	for flag, w := range a.worlds {
		list := a.command(ts, flag, []string{"sh", "-c", "ids=$(corten ps -aq) && test -z \"$ids\" || corten rm -fv $ids"})
		_ = exec.Command(list[0], list[1:]...).Run()
		_ = w.Process.Kill()
		_ = w.Wait()
	}
	_ = os.RemoveAll("/tmp/corten-nest-" + strconv.Itoa(a.uid))
	// Trees have owners and modes of their own, as root may remove them.
	_ = os.RemoveAll(strings.TrimSuffix(a.home, "/"))
}
