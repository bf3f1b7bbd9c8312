package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is a network namespace in which a peer works as on a host of its own: its eth0 leads to
// another namespace, which stands for another machine. Nobody's rules slow down anybody else.
type machine struct{ name, outside string }

// The addresses of a machine and of the one outside.
const (
	machine4, machine6 = "192.0.2.1", "2001:db8::1"
	outside4, outside6 = "192.0.2.2", "2001:db8::2"
)

// machine makes one. It is in the run's own /run, and ends with that; the scope ends it sooner.
func (s *scope) machine() *machine {
	m := &machine{name: fmt.Sprint("m", s.serial.Add(1))}
	m.outside = m.name + "out"
	for _, n := range []string{m.name, m.outside} {
		s.ip("netns add " + n)
		s.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", n).Run() })
	}
	s.ip("link add eth0 netns " + m.name + " type veth peer name eth0 netns " + m.outside)
	for _, a := range []struct{ ns, four, six, gate4, gate6 string }{
		{m.name, machine4, machine6, outside4, outside6}, {m.outside, outside4, outside6, machine4, machine6}} {
		s.ip("netns exec " + a.ns + " sysctl -qw " + reno)
		s.ip("-n " + a.ns + " link set lo up")
		s.ip("-n " + a.ns + " address add " + a.four + "/24 dev eth0")
		s.ip("-n " + a.ns + " address add " + a.six + "/64 dev eth0 nodad")
		s.ip("-n " + a.ns + " link set eth0 up")
		s.ip("-n " + a.ns + " route add default via " + a.gate4)
		s.ip("-n " + a.ns + " route add default via " + a.gate6)
	}
	return m
}

func (s *scope) ip(args string) {
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		s.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// inNet calls f on a thread that is in the named network namespace: what f starts is in it too. "" is
// the namespace of the benchmark.
func inNet(name string, f func() error) error {
	if name == "" {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close()
	other, err := os.Open("/run/netns/" + name)
	if err != nil {
		return err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	err = f()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back) // this thread would measure somewhere else from now on
	}
	return err
}
