package network_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "corten-net" {
		os.Exit(peer(os.Args[1:]))
	}
	if args := os.Getenv("CORTEN_TEST_CLAIM"); args != "" {
		claimer(strings.Split(args, ":"))
		return
	}
	os.Exit(m.Run())
}

// claimer is a process that connects one container when its input ends, tells its address, and ends
// with its other input.
func claimer(args []string) {
	d := network.Dirs{Root: args[0], Run: args[1]}
	c := &spec.Container{ID: spec.ContainerID(args[2]), Name: "c" + args[2][:6]}
	c.Networking.Attachments = []spec.Attachment{{Network: "n", Aliases: []string{"all"}}}
	fmt.Println("ready")
	_, _ = io.ReadAll(os.Stdin)
	doc, err := network.Claim(d, c, nil, network.Names{})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println(doc.Links[0].Addresses[0].Addr())
	time.Sleep(time.Hour)
}

// TestStorm has 200 processes claim at once, and kills half of them in the midst of it.
func TestStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts 200 processes")
	}
	const count = 200
	apart(t)
	d := dirs(t)
	n := create(t, d, network.Request{Name: "n"})
	type proc struct {
		c     *spec.Container
		cmd   *exec.Cmd
		lines *bufio.Scanner
		dead  bool
	}
	procs := make([]*proc, count)
	gate, starter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	for i := range procs {
		p := &proc{c: box(t, d, "c"), dead: i%2 == 0}
		p.cmd = exec.Command("/proc/self/exe")
		p.cmd.Env = []string{"CORTEN_TEST_CLAIM=" + d.Root + ":" + d.Run + ":" + string(p.c.ID), "GOMAXPROCS=1"}
		p.cmd.Stdin = gate
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer p.cmd.Wait()
		defer p.cmd.Process.Kill()
		p.lines, procs[i] = bufio.NewScanner(out), p
	}
	for _, p := range procs {
		if !p.lines.Scan() || p.lines.Text() != "ready" {
			t.Fatalf("a process says %q", p.lines.Text())
		}
	}
	starter.Close() // now
	var wait sync.WaitGroup
	for i, p := range procs {
		if p.dead {
			wait.Go(func() {
				procs[i+1].lines.Scan() // who was started next has claimed: this one is about to, or just has
				_ = p.cmd.Process.Kill()
				_ = p.cmd.Wait()
			})
		}
	}
	wait.Wait()
	holders := map[string]spec.ContainerID{}
	for _, p := range procs {
		if p.dead {
			continue
		}
		a := p.lines.Text()
		if other, taken := holders[a]; taken {
			t.Errorf("%s is %s's and %s's", a, other.Short(), p.c.ID.Short())
		}
		holders[a] = p.c.ID
		if doc, ok, err := network.Document(d, p.c.ID); !ok || err != nil || doc.Links[0].Addresses[0].Addr().String() != a {
			t.Errorf("the document of %s: %v, %v", a, doc, err)
		}
	}
	left := tree(t, filepath.Join(d.Run, "net/on/n/at"))
	withDocument, without := 0, 0
	for i, p := range procs {
		if !p.dead {
			continue
		}
		if _, ok, err := network.Document(d, p.c.ID); err != nil {
			t.Error(err)
		} else if ok {
			withDocument++
		} else {
			without++
		}
		if i%4 == 0 { // as the sweep of the next command has it
			if err := network.Forget(d, p.c.ID); err != nil {
				t.Error(err)
			}
		}
		if err := os.Remove(active(d, p.c.ID)); err != nil {
			t.Error(err)
		}
		if i%4 != 0 { // what has no document is taken over by who needs it
			if _, ok, _ := network.Document(d, p.c.ID); ok {
				if err := network.Forget(d, p.c.ID); err != nil {
					t.Error(err)
				}
			}
		}
	}
	t.Logf("of %d that were killed %d had a document and %d had none; %d claims for %d that live", count/2, withDocument, without, len(left), len(holders))
	for a, id := range holders {
		if !strings.HasPrefix(left[a], string(id)+" ") {
			t.Errorf("the claim of %s is %q's", a, left[a])
		}
	}
	got := 0
	for ; got < 300; got++ { // all that is not the living ones' can be had
		c := box(t, d, "late", spec.Attachment{Network: "n"})
		doc, err := network.Claim(d, c, nil, network.Names{})
		if errs.Is(err, errs.NoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		a := doc.Links[0].Addresses[0].Addr()
		if _, taken := holders[a.String()]; taken || a == n.Subnets[0].Gateway || a == n.Subnets[0].Subnet.Addr() {
			t.Errorf("%v was given again", a)
		}
		holders[a.String()] = c.ID
	}
	if want := 253 - count/2; got != want {
		t.Errorf("%d addresses were left, want %d", got, want)
	}
}
