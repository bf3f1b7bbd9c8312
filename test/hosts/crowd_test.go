package hosts_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// many is n if all that is promised is to be done, else few.
func many(n, few int) int {
	if full() {
		return n
	}
	return few
}

// TestStorm starts containers all at once, and kills half of their starters at any moment. No address is given
// twice, and when the rest is removed nothing is left.
func TestStorm(t *testing.T) {
	m := newMachine(t, "a")
	m.hosts()
	count := many(200, 24)
	dice := rand.New(rand.NewPCG(3, 4))
	cmds := make([]*exec.Cmd, count)
	outs := make([]bytes.Buffer, count)
	for i := range cmds {
		flags := "-d"
		if i%4 >= 2 { // in the foreground; with its starter the container ends
			flags = "--rm"
		}
		cmds[i] = m.command(append(append([]string{"run"}, strings.Fields(flags)...),
			"--network", "bridge", "--name", fmt.Sprint("c", i), "-p", strconv.Itoa(10000+i)+":80", "host", "sleep", "1000000")...)
		cmds[i].Stderr = &outs[i]
	}
	var all sync.WaitGroup
	for i, cmd := range cmds {
		wait := time.Duration(dice.IntN(20*count)) * time.Millisecond
		all.Go(func() {
			if err := m.start(cmd); err != nil {
				t.Error(err)
				return
			}
			if i%2 == 1 {
				time.Sleep(wait)
				_ = cmd.Process.Kill()
			}
			if i%4 != 2 { // that one runs on
				err := cmd.Wait()
				if i%2 == 0 && err != nil {
					t.Errorf("c%d: %v: %s", i, err, outs[i].Bytes())
				}
			}
		})
	}
	all.Wait()
	m.until("wait for those in the foreground", 30*time.Second, func() error {
		for i := 2; i < count; i += 4 {
			if out := m.try("inspect", "-f", "{{.State.Running}}", fmt.Sprint("c", i)); out != "true\n" {
				return fmt.Errorf("c%d: %s", i, out)
			}
		}
		return nil
	})
	holders := m.distinct()
	for i := 0; i < count; i += 2 {
		if holders[fmt.Sprint("c", i)] == "" {
			t.Errorf("c%d, whose starter was not killed, does not run", i)
		}
	}
	for i := 2; i < count; i += 4 {
		_ = cmds[i].Process.Signal(os.Interrupt)
	}
	ids := strings.Fields(m.corten("ps", "-aq"))
	m.corten(append([]string{"rm", "-f"}, ids...)...)
	for i := 2; i < count; i += 4 {
		_ = cmds[i].Wait()
	}
	m.corten("run", "--rm", "--network", "none", "host", "true") // the next command cleans up
	m.unchanged()
}

// distinct looks at the addresses that the processes of containers have, and returns them by name.
func (m *machine) distinct() map[string]string {
	m.t.Helper()
	local := regexp.MustCompile(`\|-- ([0-9.]+)\n\s+/32 host LOCAL`)
	of, names := map[string]string{}, map[string]string{}
	list := strings.Fields(m.corten("ps", "-q"))
	if len(list) == 0 {
		return of
	}
	for line := range strings.Lines(m.corten(append([]string{"inspect", "-f", "{{.State.Pid}} {{.Name}}"}, list...)...)) {
		pid, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		name = strings.TrimPrefix(name, "/")
		b, err := os.ReadFile("/proc/" + pid + "/net/fib_trie")
		if err != nil {
			continue // it has ended since
		}
		for _, match := range local.FindAllSubmatch(b, -1) {
			a := string(match[1])
			if strings.HasPrefix(a, "127.") || of[name] == a {
				continue
			}
			if other := names[a]; other != "" || of[name] != "" {
				m.t.Errorf("%s is %q's and %q's, and that has %q", a, other, name, of[name])
			}
			names[a], of[name] = name, a
		}
		six, _ := os.ReadFile("/proc/" + pid + "/net/if_inet6")
		for line := range strings.Lines(string(six)) { // ADDRESS INDEX LENGTH SCOPE FLAGS NAME; scope 0 is global
			f := strings.Fields(line)
			if len(f) < 6 || f[3] != "00" {
				continue
			}
			if other := names[f[0]]; other != "" {
				m.t.Errorf("%s is %q's and %q's", f[0], other, name)
			}
			names[f[0]] = name
		}
	}
	return of
}

// TestOneName starts two containers of one name at once: one of them wins, whole, and nothing is left of the other.
func TestOneName(t *testing.T) {
	m := newMachine(t, "a")
	m.hosts()
	for range many(30, 3) {
		var errs [2]error
		var outs [2]string
		var both sync.WaitGroup
		for i := range errs {
			both.Go(func() {
				outs[i], errs[i] = m.output(m.command("run", "-d", "--network", "bridge", "--name", "same", "-p", strconv.Itoa(8080+i)+":80", "host", "sleep", "1000000"))
			})
		}
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("%v: %s\n%v: %s", errs[0], outs[0], errs[1], outs[1])
		}
		loser := outs[0]
		if errs[0] == nil {
			loser = outs[1]
		}
		if !strings.Contains(loser, "same") {
			t.Errorf("who lost is told: %s", loser)
		}
		if found := m.distinct(); len(found) != 1 || found["same"] == "" {
			t.Errorf("there are %v", found)
		}
		if claims, _ := filepath.Glob(filepath.Join(m.run, "net/on/*/at/*")); len(claims) != 2 { // one of each family
			t.Errorf("claims: %q", claims)
		}
		m.corten("rm", "-f", "same")
	}
}

// TestNames has containers ask for names, of each other and of the world, and none of the questions may fail.
func TestNames(t *testing.T) {
	a, b, _ := newLan(t)
	a.hosts()
	upstream := b.upstream()
	defer upstream.Close()
	count, rate, seconds := many(100, 10), 50, many(10, 2) // each 50 a second: 5,000 together
	a.corten("network", "create", "--ipv6", "lab")
	var names []string
	for i := range count {
		names = append(names, fmt.Sprint("c", i))
	}
	for i := range count / 4 {
		names = append(names, fmt.Sprint("n", i, strings.TrimSuffix(outsideName, ".")))
	}
	// Those who are asked for are there first.
	for i := range count {
		a.corten("run", "-d", "--network", "lab", "--dns", []string{b4, b6}[i%2], "--name", fmt.Sprint("c", i), "-v", filepath.Join(os.Getenv(built), peerName)+":/"+peerName+":ro", "host", "sleep", "1000000")
	}
	outs := make([]string, count)
	var all []func()
	for i := range count {
		all = append(all, func() {
			var err error
			outs[i], err = a.output(a.command(append([]string{"exec", fmt.Sprint("c", i), "/" + peerName, "storm", strconv.Itoa(rate), strconv.Itoa(seconds)}, names...)...))
			if err != nil {
				t.Errorf("c%d: %v: %s", i, err, outs[i])
			}
		})
	}
	begin := time.Now()
	together(all)
	sum := 0
	for i, out := range outs {
		var asked, failed int
		if _, err := fmt.Sscanf(out, "asked %d failed %d", &asked, &failed); err != nil || asked != rate*seconds || failed > 0 {
			t.Errorf("c%d: %s", i, out)
		}
		sum += asked
	}
	t.Logf("%d questions in %.1f s", sum, time.Since(begin).Seconds())
	a.corten(append([]string{"rm", "-f"}, names[:count]...)...)
	a.corten("network", "rm", "lab")
}
