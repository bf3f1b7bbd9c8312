// The command sh is a virtual machine to try things in by hand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cortenhq/corten/test/vm/machine"
)

const help = `usage: go run ./test/vm/sh [FLAG...] [COMMAND [ARGUMENT...]]

Executes a command, or a shell, as root in the virtual machine of the tests: Debian with systemd,
cgroup v2, AppArmor, a root disk with fs-verity and project quotas, an empty one at
/dev/disk/by-id/virtio-spare. It is started if it is not on, with this tree's programs installed,
and stays on, with all that was done in it, until --off or --rm. One argument is a script, as for
ssh; the exit status is the command's, or 255.

  go run ./test/vm/sh 'corten import /root/debian.tar debian && corten run --rm debian id'
  go run ./test/vm/sh --install corten version       this tree's programs, compiled anew
  go run ./test/vm/sh --test -- -short ./internal/disk   go test, with the test binaries executed there
  go run ./test/vm/sh --copy ./a.test /root/a.test   a file of the host, into /root

Needs root on amd64 and the packages of VM in the Makefile. There is no KVM: a start takes half a
minute, and programs run at a tenth of their speed.

`

func main() {
	// QEMU stays: with what this process was given it would hold locks and pipes of who waits for it.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	flags := flag.NewFlagSet("sh", flag.ExitOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, help); flags.PrintDefaults() }
	var o options
	flags.StringVar(&o.name, "name", "sh", "which machine: each `name` is one of its own")
	flags.StringVar(&o.copy, "copy", "", "copy this `path` of the host to /root first")
	flags.IntVar(&o.memory, "memory", 2048, "`MiB` of memory of a machine that is started")
	flags.BoolVar(&o.install, "install", false, "install this tree's programs again first")
	flags.BoolVar(&o.test, "test", false, "the arguments are those of go test")
	flags.BoolVar(&o.reboot, "reboot", false, "reboot it first")
	flags.BoolVar(&o.cut, "cut", false, "take its power and start it again first")
	flags.BoolVar(&o.console, "console", false, "print its console")
	flags.BoolVar(&o.off, "off", false, "switch it off, and keep its disk")
	flags.BoolVar(&o.rm, "rm", false, "switch it off and remove it")
	_ = flags.Parse(os.Args[1:])
	err := o.do(context.Background(), flags.Args())
	var exit *machine.ExitError
	switch {
	case errors.As(err, &exit) && exit.Reason == "" && exit.Signal == 0:
		os.Exit(exit.Code)
	case err != nil:
		fmt.Fprintln(os.Stderr, "sh:", err)
		os.Exit(255)
	}
}

type options struct {
	name, copy                                   string
	memory                                       int
	install, test, reboot, cut, console, off, rm bool
}

func (o options) do(ctx context.Context, args []string) error {
	if lack := machine.Missing(); lack != "" {
		return errors.New("needs " + lack)
	}
	dir := filepath.Join(os.TempDir(), "corten-vm-"+o.name)
	_, err := os.Stat(dir)
	fresh := errors.Is(err, os.ErrNotExist)
	m, err := machine.New(machine.Options{Dir: dir, Memory: o.memory, Log: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "sh: "+format+"\n", args...)
	}})
	if err != nil {
		return err
	}
	switch {
	case o.rm:
		return m.Close()
	case o.off && m.On():
		return m.PowerOff(ctx)
	case o.off:
		return nil
	case o.console:
		_, err := fmt.Print(m.Console())
		return err
	}
	if err := o.prepare(ctx, m, fresh); err != nil {
		return err
	}
	if o.test {
		return m.GoTest(ctx, os.Stdout, nil, append([]string{"-count", "1"}, args...)...)
	}
	return execute(ctx, m, args)
}

// prepare has the machine on, with what the flags ask for.
func (o options) prepare(ctx context.Context, m *machine.Machine, fresh bool) error {
	if o.cut && m.On() {
		if err := m.PowerCut(); err != nil {
			return err
		}
	}
	if o.reboot && m.On() {
		if err := m.PowerOff(ctx); err != nil {
			return err
		}
	}
	if !m.On() {
		if err := m.Start(ctx); err != nil {
			return err
		}
	}
	if fresh || o.install {
		if err := m.Install(ctx); err != nil {
			return err
		}
	}
	if fresh {
		if err := m.Copy(ctx, "/root", m.Debian()); err != nil {
			return err
		}
	}
	if o.copy != "" {
		return m.Copy(ctx, "/root", o.copy)
	}
	return nil
}

func execute(ctx context.Context, m *machine.Machine, args []string) error {
	cmd := m.Command("bash", "-l")
	switch len(args) {
	case 0:
	case 1:
		cmd = m.Shell(args[0])
	default:
		cmd = m.Command(args[0], args[1:]...)
	}
	cmd.Dir = "/root"
	cmd.Env = []string{"HOME=/root"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	size, err := unix.IoctlGetWinsize(syscall.Stdout, unix.TIOCGWINSZ)
	if err != nil || !term.IsTerminal(syscall.Stdin) {
		if len(args) == 0 {
			cmd.Args = []string{"bash", "-s"}
		}
		return cmd.Run(ctx)
	}
	cmd.Terminal = [2]int{int(size.Row), int(size.Col)}
	cmd.Env = append(cmd.Env, "TERM="+strings.TrimSpace(os.Getenv("TERM")))
	old, err := term.MakeRaw(syscall.Stdin)
	if err != nil {
		return err
	}
	defer func() { _ = term.Restore(syscall.Stdin, old) }()
	return cmd.Run(ctx)
}
