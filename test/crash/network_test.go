package crash_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// networksLeft lists what says that somebody is connected, or is a rule of ours. What FORMATS.md lets
// stay is named here.
func (w *world) networksLeft() []string {
	var left []string
	folder := filepath.Join(w.run, "net")
	_ = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		name, _ := filepath.Rel(folder, path)
		parts := strings.Split(name, "/")
		last := parts[len(parts)-1]
		rests := len(parts) == 3 && parts[0] == "on" && (last == "next4" || last == "next6" || strings.HasPrefix(last, ".next-"))
		if name != "lock" && name != "linger" && !rests {
			left = append(left, "net/"+name)
		}
		return nil
	})
	if out, err := exec.Command("nft", "list", "tables").Output(); err == nil && len(out) > 0 {
		left = append(left, strings.TrimSpace(string(out)))
	}
	return left
}

// hostLeft lists what is left in the kernel when the processes have ended that nobody waits for.
func (w *world) hostLeft() []string {
	w.t.Helper()
	var left []string
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) { // namespaces are taken apart after their last process
		links, err := netlink.LinkList()
		if err != nil {
			w.t.Fatal(err)
		}
		left = nil
		for _, l := range links {
			if l.Attrs().Name != "lo" {
				left = append(left, "interface "+l.Attrs().Name+" ("+l.Type()+")")
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range flows {
		// What a bridge itself has said of groups (IGMP) is no container's.
		if (!f.Forward.SrcIP.IsLoopback() || !f.Reverse.SrcIP.IsLoopback()) && !f.Forward.DstIP.IsMulticast() {
			left = append(left, "connection "+f.String())
		}
	}
	if b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); string(b) != "0\n" {
		left = append(left, "the host forwards")
	}
	return left
}

// web is the port of the host that containers of these tests publish.
const web = 8089

// networked makes a world with networks: one user-defined, and one more. The default one is made when it is needed.
func networked(t *testing.T) *world {
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs " + program)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0); err != nil {
		t.Skip("needs a network of its own:", err)
	}
	w := newWorld(t)
	for _, name := range []string{"one", "two"} {
		w.must("network", "create", name)
	}
	return w
}

// disconnected looks that nothing says any more that somebody is connected; for that nobody needs to
// wait for corten-net, which may be at what nobody waits for.
func (w *world) disconnected(when string) {
	w.t.Helper()
	w.alone()
	if code, said := w.within("ps", "-a"); code != 0 {
		w.t.Errorf("%s: ps: status %d\n%s", when, code, said)
	}
	w.alone() // whoever goes on for a keeper that was killed
	if left := w.networksLeft(); len(left) > 0 {
		w.t.Errorf("%s: left behind:\n\t%s", when, strings.Join(left, "\n\t"))
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", web))
	if err != nil {
		w.t.Errorf("%s: %v", when, err)
		return
	}
	l.Close()
}

// alone waits until no process is left but corten-net.
func (w *world) alone() {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Microsecond) {
		reap()
		left := slices.DeleteFunc(w.processes(), func(p string) bool { return strings.Contains(p, "): corten-net ") || strings.Contains(p, "(Z): ") })
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Errorf("still alive: %v", left)
			return
		}
	}
}

// unplugged is the end of a test: one more container comes and goes, and takes along what others left that
// were killed.
func (w *world) unplugged() {
	w.t.Helper()
	if w.t.Failed() {
		return
	}
	w.must("run", "--rm", "--network", "one", "host", "true")
	w.ends()
	w.clean("at the end")
	if left := w.hostLeft(); len(left) > 0 {
		w.t.Errorf("at the end: left behind:\n\t%s", strings.Join(left, "\n\t"))
	}
}

// netStart is a command that has to do with networks, and who is killed of it.
type netStart struct {
	name   string
	victim string // a role; empty: the command
	before string // a script: $corten, and tables of nftables
	args   string
	step   int // of how many points one is tried by default
}

func netStarts() []netStart {
	const fore = "run --rm --name same --network one -p 8089:80 host sh -c 'exit 7'"
	const kept = "run -d --rm --name same --network one -p 8089:80 host sleep 0.05"
	const runs = "$corten run -d --rm --name same --network one -p 8089:80 host sleep 1000"
	return []netStart{
		{"foreground", "", "", fore, 37},
		{"foreground on the default network", "", "", strings.Replace(fore, "one", "bridge", 1), 61},
		{"tend", "net tend", "", fore, 23},
		{"begin", "keep begin", "", kept, 29},
		{"up", "net up", "", kept, 23},
		{"keeper", "keeper", "", kept, 31},
		{"end", "keep end", "", kept, 31},
		{"down", "net down", "", kept, 23},
		{"connect", "", runs, "network connect two same", 23},
		{"disconnect", "", runs, "network disconnect one same", 29},
		{"change", "net change", runs, "network connect two same", 29},
		{"restore", "net restore", runs + "; sleep 1.3; nft flush ruleset", "ps", 47},
	}
}

// TestKillNetworkCalls kills, before each of their system calls that matter, the commands that connect
// containers, corten-net, and who looks after a container.
func TestKillNetworkCalls(t *testing.T) {
	if !canTrace {
		t.Skip("needs an amd64 machine")
	}
	world := networked(t)
	for _, s := range netStarts() {
		t.Run(s.name, func(t *testing.T) {
			w := *world
			w.t = t
			n, step := 1+os.Getpid()%s.step, s.step
			if full() {
				n, step = 1, 1
			}
			for done := false; !done && !t.Failed(); n += step {
				done = w.killNet(s, n)
			}
		})
	}
	world.unplugged()
}

// script runs commands of a shell on the world's folders.
func (w *world) script(commands string) {
	w.t.Helper()
	c := w.corten("version")
	shell(w.t, "corten='"+strings.Join(c.Args[:len(c.Args)-1], " ")+"'; "+commands)
}

// killNet kills at the n-th call of the victim, and reports whether all ended before.
func (w *world) killNet(s netStart, n int) (done bool) {
	w.t.Helper()
	if s.before != "" {
		w.script(s.before + " >/dev/null")
	}
	var args []string
	for i, part := range strings.Split(s.args, "'") {
		if i == 1 {
			args = append(args, part)
			continue
		}
		args = append(args, strings.Fields(part)...)
	}
	cmd := w.corten(args...)
	said := w.listen(cmd)
	count, where := 0, ""
	ws := traceKept(w.t, cmd, func(c call) verdict {
		if c.child || where != "" || c.role != s.victim && (s.victim == "" || !strings.HasPrefix(c.role, s.victim)) || idle(c.nr) {
			return verdict{}
		}
		if count++; count != n {
			return verdict{}
		}
		where = fmt.Sprintf("%s, killed at %d: %v", s.name, n, c)
		return verdict{killCommand: s.victim == "", killCaller: s.victim != "", letGo: true}
	})
	when := where
	if when == "" {
		when = s.name + ", not killed"
		if code := ws.ExitStatus(); code != 0 && code != 7 {
			w.t.Errorf("%s: status %d\n%s", when, code, said())
		}
		if w.t.Logf("%d calls", count); count == 0 {
			w.t.Error("it is never executed")
		}
	}
	if _, err := os.Lstat(filepath.Join(w.root, "names", "same")); err == nil {
		code, said := w.within("rm", "-f", "-v", "same")
		if code != 0 && !strings.Contains(said, "no such container") {
			w.t.Errorf("%s: rm: status %d\n%s", when, code, said)
		}
	}
	w.disconnected(when)
	if w.t.Failed() {
		w.t.Logf("%s", said())
	}
	return where == ""
}

// netVictims are the processes of the world that have to do with a network, but for containers'.
func (w *world) netVictims(of string) []int {
	var list []int
	for _, p := range w.processes() {
		var pid int
		if _, err := fmt.Sscanf(p, "process %d", &pid); err == nil && strings.Contains(p, "): "+of) {
			list = append(list, pid)
		}
	}
	return list
}

// TestKillNetwork kills corten-net, keepers and commands at random instants, of containers of both kinds, that
// are connected in all ways.
func TestKillNetwork(t *testing.T) {
	w := networked(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for n := range rounds(24) {
		flags := []string{"run", "--rm", "--name", "same", "--network", []string{"one", "bridge"}[random.IntN(2)], "-p", strconv.Itoa(web) + ":80"}
		if random.IntN(2) == 0 {
			flags = append(flags, "--network", "two", "-p", "[::1]:8090:80", "-p", "8091:53/udp")
		}
		kept := random.IntN(2) == 0
		if kept {
			flags = append(flags, "-d", "--restart", []string{"no", "on-failure:2"}[random.IntN(2)])
			flags = slices.DeleteFunc(flags, func(f string) bool { return f == "--rm" })
		}
		cmd := w.corten(append(flags, "host", "sh", "-c", "sleep 0.0$1; exit 3", "sh", strconv.Itoa(random.IntN(9)))...)
		said := w.listen(cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		victim := []string{"corten-net ", "corten-net ", "corten-keeper ", filepath.Join(os.Getenv(inside), "corten") + " "}[random.IntN(4)]
		for range 1 + random.IntN(3) {
			time.Sleep(time.Duration(random.IntN(40000)) * time.Microsecond)
			for _, pid := range w.netVictims(victim) {
				if pid != cmd.Process.Pid {
					strike(pid)
					continue
				}
				_ = cmd.Process.Kill() // it is waited for below
			}
		}
		_ = cmd.Wait()
		when := fmt.Sprintf("round %d: %v, killed %q: %v %s", n, flags, victim, cmd.ProcessState, said())
		if code, said := w.within("ps", "-a"); code != 0 {
			t.Errorf("%s: ps: status %d\n%s", when, code, said)
		}
		if _, err := os.Lstat(filepath.Join(w.root, "names", "same")); err == nil {
			if code, said := w.within("rm", "-f", "same"); code != 0 && !strings.Contains(said, "no such container") {
				t.Errorf("%s: rm: status %d\n%s", when, code, said)
			}
		}
		if w.disconnected(when); t.Failed() {
			return
		}
	}
	w.unplugged()
}

// TestNetworkCrowd has many starts at once, half of which are killed.
func TestNetworkCrowd(t *testing.T) {
	w := networked(t)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	many := 40
	if full() {
		many = 200
	}
	var all sync.WaitGroup
	for i := range many {
		args := []string{"run", "--rm", "--network", []string{"one", "two", "bridge"}[i%3], "-p", fmt.Sprintf("%d:80", 9000+i)}
		if i%5 == 0 {
			args = slices.Insert(args, 1, "-d")
		}
		args = append(args, "host", "sh", "-c", "sleep 0.0$1; exit 7", "sh", strconv.Itoa(random.IntN(9)))
		life := time.Duration(random.IntN(many*20)) * time.Millisecond
		all.Go(func() {
			cmd := w.corten(args...)
			said := w.listen(cmd)
			if err := cmd.Start(); err != nil {
				t.Error(err)
				return
			}
			killed := i%2 == 1
			if killed {
				time.Sleep(life)
				_ = cmd.Process.Kill()
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 7 && code != 0 && !(killed && code == -1) {
				t.Errorf("corten %s: status %d\n%s", strings.Join(args, " "), code, said())
			}
		})
	}
	all.Wait()
	w.disconnected("all together")
	w.unplugged()
}

// TestNetworkFullDisk has ever less room in the run folder.
func TestNetworkFullDisk(t *testing.T) {
	w := networked(t)
	dir := filepath.Join(t.TempDir(), "disk")
	shell(t, "mkdir "+dir+"; mount -t tmpfs -o size=4m,nr_inodes=100000 none "+dir)
	t.Cleanup(func() { shell(t, "umount -l "+dir) })
	w.mounts = mounts(t)
	w.run = filepath.Join(dir, "run")
	w.sweep()
	failed := 0
	room := func(name string, fill func()) {
		fill()
		for _, flags := range []string{"--rm", "-d --rm"} {
			args := slices.Concat([]string{"run"}, strings.Fields(flags), []string{"--network", "one", "--network", "two", "-p", strconv.Itoa(web) + ":80", "host", "true"})
			if code, said := w.within(args...); code != 0 {
				if failed++; code != 125 || !strings.Contains(said, "corten: hint: ") {
					t.Errorf("%s, %v: status %d\n%s", name, args, code, said)
				}
			}
		}
		shell(t, fmt.Sprintf("rm -f %s/filler; mount -o remount,nr_inodes=100000 %[1]s", dir))
		w.disconnected(name)
		for _, id := range names(filepath.Join(w.root, "containers")) {
			b, _ := os.ReadFile(filepath.Join(w.root, "containers", id, "state.json"))
			t.Errorf("%s: container %s is left: %s", name, id, b)
		}
	}
	step := 3
	if full() {
		step = 1
	}
	for files := 0; files < 45 && !t.Failed(); files += step {
		room(fmt.Sprint(files, " files"), func() { limitFiles(t, dir, files) })
	}
	for free := int64(0); free <= 48<<10 && !t.Failed(); free += int64(step) * 4096 {
		room(fmt.Sprint(free, " bytes"), func() { fill(t, filepath.Join(dir, "filler"), free) })
	}
	if failed == 0 {
		t.Error("everything fits on a full disk")
	}
	w.unplugged()
}
