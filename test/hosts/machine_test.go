package hosts_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// machine is a network namespace, held by a process that sleeps in it, and state folders.
type machine struct {
	t         *testing.T
	name      string
	root, run string
	holder    *exec.Cmd
	before    string // what there was before the first container
}

func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	lookAtSources(t)
	dir := t.TempDir()
	m := &machine{t: t, name: name, root: filepath.Join(dir, "root"), run: filepath.Join(dir, "run"), holder: exec.Command("sleep", "1000000")}
	m.holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := m.holder.Start(); err != nil {
		t.Skip("needs network namespaces: ", err)
	}
	t.Cleanup(func() { _ = m.holder.Process.Kill(); _ = m.holder.Wait() })
	m.sh(`ip link set lo up
		echo 1 >/proc/sys/net/ipv6/conf/default/keep_addr_on_down; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad`)
	return m
}

// The addresses of the lan's machines; the router has the first of each subnet.
const (
	a4, a6 = "192.0.2.2", "2001:db8:a::2"
	b4, b6 = "198.51.100.2", "2001:db8:b::2"
)

// newLan is two machines and the router between them.
func newLan(t *testing.T) (a, b, router *machine) {
	t.Helper()
	a, b, router = newMachine(t, "a"), newMachine(t, "b"), newMachine(t, "router")
	router.sh("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
	for _, l := range []struct {
		m                  *machine
		four, six, gw, gw6 string
	}{{a, a4, a6, "192.0.2.1", "2001:db8:a::1"}, {b, b4, b6, "198.51.100.1", "2001:db8:b::1"}} {
		router.sh(fmt.Sprintf(`ip link add %[1]s type veth peer name eth0 netns %[2]d
			ip address add %[3]s/24 dev %[1]s; ip address add %[4]s/64 dev %[1]s nodad; ip link set %[1]s up`, "to-"+l.m.name, l.m.holder.Process.Pid, l.gw, l.gw6))
		l.m.sh(fmt.Sprintf(`ip address add %s/24 dev eth0; ip address add %s/64 dev eth0 nodad; ip link set eth0 up
			ip route add default via %s; ip route add default via %s
			until ip link show eth0 | grep -q 'state UP'; do sleep 0.01; done`, l.four, l.six, l.gw, l.gw6))
		router.sh("until ip link show to-" + l.m.name + " | grep -q 'state UP'; do sleep 0.01; done")
	}
	return a, b, router
}

// hosts has Corten on a machine, and checks at the end that the machine is as it was.
func (m *machine) hosts() {
	m.t.Helper()
	m.corten("run", "--rm", "--network", "none", "host", "true") // what is made once
	m.before = m.state()
	m.t.Cleanup(func() {
		if out := strings.Fields(m.try("ps", "-aq")); len(out) > 0 {
			m.try(append([]string{"rm", "-f"}, out...)...)
		}
		m.unchanged()
	})
}

// in calls f on a thread that is in the machine's network: sockets and processes that f makes are there too.
func (m *machine) in(f func()) {
	m.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with this
		fd, err := unix.Open("/proc/"+strconv.Itoa(m.holder.Process.Pid)+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		m.t.Error(err)
	}
}

// start starts a command.
func (m *machine) start(cmd *exec.Cmd) (err error) {
	m.in(func() { err = cmd.Start() })
	return err
}

// sh executes lines of a shell, and returns what they print.
func (m *machine) sh(lines string) string {
	m.t.Helper()
	out, err := m.output(exec.Command("sh", "-ec", lines))
	if err != nil {
		m.t.Fatalf("%s: %v: %s", lines, err, out)
	}
	return out
}

func (m *machine) output(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := m.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	return out.String(), err
}

// command is one of Corten, not started.
func (m *machine) command(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(os.Getenv(built), "corten"), append([]string{"--root", m.root, "--run", m.run}, args...)...)
}

// corten has to succeed.
func (m *machine) corten(args ...string) string {
	m.t.Helper()
	out, err := m.output(m.command(args...))
	if err != nil {
		m.t.Fatalf("%s: corten %s: %v\n%s", m.name, strings.Join(args, " "), err, out)
	}
	return out
}

func (m *machine) try(args ...string) string {
	out, _ := m.output(m.command(args...))
	return out
}

// box are the arguments that run the test's own program in a container.
func box(flags string, program ...string) []string {
	args := append([]string{"run"}, strings.Fields(flags)...)
	args = append(args, "-v", filepath.Join(os.Getenv(built), peerName)+":/"+peerName+":ro", "host", "/"+peerName)
	return append(args, program...)
}

// state is all that may be changed on a machine. Counters are not looked at, handles are: a rule that
// somebody has taken away and made again is not the same.
func (m *machine) state() string {
	m.t.Helper()
	var more []string
	for _, p := range []string{"wired/*", "wired/.*", "on/*/at/*", "on/*/names/*"} {
		found, _ := filepath.Glob(filepath.Join(m.run, "net", p))
		more = append(more, found...)
	}
	more = append(more, m.processes()...)
	return m.sh(`nft -a -s list ruleset; ip -o link | sed 's/.*: \([^:]*\): .*/\1/'
		ip -o address show dev lo; ip -o address show dev eth0 | sed 's/valid_lft.*//'; ip route; ip -6 route
		for i in ipv4/ip_forward ipv6/conf/all/forwarding ipv6/conf/*/accept_ra ipv4/conf/*/route_localnet; do echo $i; done | while read i; do
			for f in /proc/sys/net/$i; do echo $f $(cat $f); done; done`) + strings.Join(more, "\n")
}

// processes are those of Corten that say on their command line that they work for this machine.
func (m *machine) processes() (list []string) {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range found {
		if b, _ := os.ReadFile(f); bytes.Contains(b, []byte(m.run)) {
			list = append(list, f+" "+string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
		}
	}
	return list
}

// unchanged waits until the machine is as it was: bridges stay for a while.
func (m *machine) unchanged() {
	m.t.Helper()
	var got string
	for range 100 {
		if got = m.state(); got == m.before {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	m.t.Errorf("%s is not as it was:\n%s", m.name, difference(m.before, got))
}

// difference lists the lines that only one of two texts has.
func difference(before, after string) string {
	var b strings.Builder
	for _, d := range []struct{ sign, one, other string }{{"-", before, after}, {"+", after, before}} {
		has := map[string]bool{}
		for line := range strings.Lines(d.other) {
			has[strings.TrimSpace(line)] = true
		}
		for line := range strings.Lines(d.one) {
			if !has[strings.TrimSpace(line)] {
				b.WriteString(d.sign + line)
			}
		}
	}
	return b.String()
}

const (
	soon  = 5 * time.Second        // for what is to succeed
	never = 300 * time.Millisecond // for what is not to
)

// reach asks a serving peer as whom it sees the machine.
func (m *machine) reach(network, address string, wait time.Duration) (as string, err error) {
	m.t.Helper()
	m.in(func() { as, err = ask(network, address, wait) })
	return as, err
}

// sees checks that a machine reaches an address, and as whom; "" does not matter.
func (m *machine) sees(network, address, as string) {
	m.t.Helper()
	got, err := m.reach(network, address, soon)
	if err != nil || as != "" && got != as {
		m.t.Errorf("%s to %s %s: reached as %q (%v), want %q", m.name, network, address, got, err, as)
	}
}

func (m *machine) sealed(network, address string) {
	m.t.Helper()
	if got, err := m.reach(network, address, never); err == nil {
		m.t.Errorf("%s to %s %s: reached as %q, and it should not be", m.name, network, address, got)
	}
}

// until waits for something that is to become true.
func (m *machine) until(what string, wait time.Duration, f func() error) {
	m.t.Helper()
	err := errors.New("never asked")
	for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	m.t.Fatalf("%s: %s: %v", m.name, what, err)
}

// at writes an address and a port.
func at(address string, port int) string { return net.JoinHostPort(address, strconv.Itoa(port)) }
