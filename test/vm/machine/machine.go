// Package machine is the virtual machine of the tests: Debian with systemd, control groups of
// version 2 alone, and AppArmor, on a disk whose file system has fs-verity and project quotas.
//
// What it is made of (recipe.sh) takes a minute and the network, and waits in the cache folder for
// the next run, under a name that has the hash of its recipe. A Machine begins as a copy of it, is
// started, rebooted, switched off or cut from its power, each of which takes a new process of QEMU
// with the same disk, and ends with Close. Commands in it are executed by an agent (test/vm/agent),
// which comes with each boot and is of this tree.
//
// There is no KVM: hosts of the tests cannot execute a distribution's kernel with it. A boot takes
// some 15 seconds, and what computes takes ten times what it takes on the host.
package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cortenhq/corten/test/vm/protocol"
)

// Options are what a machine can be made with besides.
type Options struct {
	// Dir keeps the machine, which then outlives this process, and is on already if another
	// left it so. Without it the machine is gone when this process or Close is.
	Dir string
	// Memory is in MiB; 2048 if it is 0.
	Memory int
	// Volatile makes its disk one with a write cache that loses power as well: what the guest
	// has not flushed is lost, or not, block by block. Slower.
	Volatile bool
	// Seeds are files that the guest sees as read-only disks, by the names of their place:
	// /dev/disk/by-id/virtio-seed0 and on.
	Seeds []string
	// Reach is the address of a server on the host, which the guest reaches at Reached, or empty.
	Reach string
	// Log is told what takes time.
	Log func(format string, args ...any)
}

// Reached is where the guest finds the server that Options.Reach names.
const Reached = "10.0.2.101:5000"

// Machine is one virtual machine. Its methods, but for Command, are for one goroutine at a time.
type Machine struct {
	opts  Options
	dir   string
	parts string
	power atomic.Pointer[power] // nil when it is off
	cache *cache                // with Options.Volatile
}

// power is one time that the machine is on.
type power struct {
	qemu *os.Process
	port int
	over chan struct{} // closed when QEMU has ended, with err
	err  error
}

// patience is how long a boot, or a shutdown, may take before it counts as hung: ten times what
// it takes on a quiet host.
const patience = 5 * time.Minute

// New makes a machine, which is off.
func New(opts Options) (*Machine, error) {
	if opts.Memory == 0 {
		opts.Memory = 2048
	}
	if opts.Log == nil {
		opts.Log = func(string, ...any) {}
	}
	m := &Machine{opts: opts, dir: opts.Dir}
	var err error
	if m.parts, err = Parts(opts.Log); err != nil {
		return nil, err
	}
	if m.dir == "" {
		m.dir, err = temporary()
	} else {
		err = os.MkdirAll(m.dir, 0o700)
	}
	if err != nil {
		return nil, err
	}
	if opts.Dir != "" && m.attach() {
		return m, nil
	}
	if err := m.furnish(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// temporary makes a folder that has this process in its name, and removes those of processes that are
// gone: one that is killed leaves some gigabytes.
func temporary() (string, error) {
	const name = "corten-vm-of-"
	old, err := filepath.Glob(filepath.Join(os.TempDir(), name+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), name), "-")
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			_ = os.RemoveAll(dir)
		}
	}
	return os.MkdirTemp("", name+strconv.Itoa(os.Getpid())+"-")
}

// Debian is the path of a tar on the host: the root of a Debian with systemd, for containers.
func (m *Machine) Debian() string { return filepath.Join(m.parts, "debian.tar") }

// furnish gives the machine's folder what the processes of QEMU need.
func (m *Machine) furnish() error {
	disk := filepath.Join(m.dir, "disk")
	if _, err := os.Stat(disk); errors.Is(err, os.ErrNotExist) {
		if err := command("cp", "--reflink=auto", "--sparse=always", filepath.Join(m.parts, "disk"), disk); err != nil {
			return err
		}
		// For file systems of the tests' own: /dev/disk/by-id/virtio-spare.
		if err := sparse(filepath.Join(m.dir, "spare"), 2<<30); err != nil {
			return err
		}
	}
	if err := m.writeInitrd(); err != nil {
		return err
	}
	if err := BuildGo(filepath.Join(m.dir, "exec"), "./test/vm/exec"); err != nil {
		return err
	}
	if !m.opts.Volatile {
		return nil
	}
	var err error
	m.cache, err = serve(disk, filepath.Join(m.dir, "nbd"))
	return err
}

func sparse(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// command runs a command of the host that has to succeed.
func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(out[max(0, len(out)-2000):]))
	}
	return nil
}

// Start switches the machine on, and returns when systemd has started everything.
func (m *Machine) Start(ctx context.Context) error {
	if m.power.Load() != nil {
		return errors.New("the machine is on")
	}
	begun := time.Now()
	if err := m.switchOn(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := m.await(ctx); err != nil {
		return m.hung("start", err)
	}
	// Degraded means that a unit failed, which is for tests to judge.
	out, err := m.Command("systemctl", "is-system-running", "--wait").Output(ctx)
	if state := strings.TrimSpace(out); state != "running" && state != "degraded" {
		return m.hung("start", fmt.Errorf("systemd is %q: %w", state, err))
	}
	m.opts.Log("the machine started in %.1f s", time.Since(begun).Seconds())
	return nil
}

// hung says what the machine wrote last, before it is switched off for good.
func (m *Machine) hung(op string, err error) error {
	_ = m.PowerCut()
	text := m.Console()
	return fmt.Errorf("%s the machine: %w\nits console ends with:\n%s", op, err, text[max(0, len(text)-4000):])
}

// switchOn starts QEMU. Without Options.Dir it ends with the thread that started it, so with this
// process.
func (m *Machine) switchOn() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	p := &power{port: port, over: make(chan struct{})}
	cmd := exec.Command("qemu-system-x86_64", m.arguments(port)...)
	said, err := os.Create(filepath.Join(m.dir, "qemu.log"))
	if err != nil {
		return err
	}
	defer said.Close()
	cmd.Stderr = said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if m.opts.Dir != "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		if err := cmd.Wait(); err != nil {
			b, _ := os.ReadFile(said.Name())
			p.err = fmt.Errorf("%w %s", err, bytes.TrimSpace(b))
		}
		close(p.over)
	}()
	if err := <-started; err != nil {
		return err
	}
	p.qemu = cmd.Process
	m.power.Store(p)
	return m.remember(p)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// arguments are those of QEMU. A guest that reboots ends it: whoever expects that starts another.
func (m *Machine) arguments(port int) []string {
	disk := "file=" + filepath.Join(m.dir, "disk") + ",format=raw,cache=unsafe"
	if m.cache != nil {
		disk = "file=nbd+unix:///?socket=" + m.cache.socket + ",format=raw,cache=writeback"
	}
	args := []string{"-machine", "q35,sata=off", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-la57,-svm", "-smp", "2", "-m", strconv.Itoa(m.opts.Memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "file:" + filepath.Join(m.dir, "console"),
		"-kernel", filepath.Join(m.parts, "vmlinuz"), "-initrd", filepath.Join(m.dir, "initrd"),
		"-append", "console=ttyS0 panic=-1 quiet loglevel=4 systemd.show_status=0 net.ifnames=0 mitigations=off " +
			"apparmor=1 security=apparmor modprobe.blacklist=aesni_intel,acpi_cpufreq,psmouse",
		"-netdev", m.netdev(port),
		"-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
		"-drive", disk + ",if=none,id=root", "-device", "virtio-blk-pci,drive=root,serial=root",
		"-drive", "file=" + filepath.Join(m.dir, "spare") + ",format=raw,cache=unsafe,if=none,id=spare", "-device", "virtio-blk-pci,drive=spare,serial=spare",
	}
	for i, seed := range m.opts.Seeds {
		name := "seed" + strconv.Itoa(i)
		args = append(args, "-drive", "file="+seed+",format=raw,read-only=on,if=none,id="+name, "-device", "virtio-blk-pci,drive="+name+",serial="+name)
	}
	return args
}

// netdev lets nobody but this host reach the guest's agent, and lets the guest reach nobody but what
// the command exec leads to.
func (m *Machine) netdev(port int) string {
	exec := "-cmd:" + filepath.Join(m.dir, "exec")
	net := "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:" + strconv.Itoa(port) + "-" + protocol.Address +
		",guestfwd=tcp:" + protocol.Gate + exec + " go"
	if m.opts.Reach != "" {
		net += ",guestfwd=tcp:" + Reached + exec + " dial " + m.opts.Reach
	}
	return net
}

// Reboot has the guest reboot, in order.
func (m *Machine) Reboot(ctx context.Context) error {
	if err := m.PowerOff(ctx); err != nil {
		return err
	}
	return m.Start(ctx)
}

// PowerOff has the guest stop everything, in order, and switch itself off.
func (m *Machine) PowerOff(ctx context.Context) error {
	p := m.power.Load()
	if p == nil {
		return errors.New("the machine is off")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// The connection may end before the answer.
	_, _ = m.Command("systemctl", "poweroff").Output(ctx)
	select {
	case <-p.over:
	case <-ctx.Done():
		return m.hung("switch off", ctx.Err())
	}
	err := p.err
	m.power.Store(nil)
	return err
}

// PowerCut takes the machine's power. What the guest had in memory is lost, and with
// Options.Volatile so is some of what it had not flushed to its disk.
func (m *Machine) PowerCut() error {
	if m.power.Load() == nil {
		return errors.New("the machine is off")
	}
	err := m.kill()
	if m.cache != nil {
		err = errors.Join(err, m.cache.cut())
	}
	return err
}

func (m *Machine) kill() error {
	p := m.power.Load()
	if p == nil {
		return nil
	}
	err := p.qemu.Kill()
	<-p.over
	m.power.Store(nil)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Off is closed when the machine has gone off: by itself, by its kernel's panic or by a method.
func (m *Machine) Off() <-chan struct{} {
	p := m.power.Load()
	if p == nil {
		off := make(chan struct{})
		close(off)
		return off
	}
	return p.over
}

// Console is what the guest has written to its console since it was switched on.
func (m *Machine) Console() string {
	b, err := os.ReadFile(filepath.Join(m.dir, "console"))
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(string(b), "\r", "")
}

// Disk is the file of the root disk. It is whole while the machine is off.
func (m *Machine) Disk() string { return filepath.Join(m.dir, "disk") }

// Close takes the machine's power and removes it, with its disk.
func (m *Machine) Close() error {
	err := m.kill()
	if m.cache != nil {
		err = errors.Join(err, m.cache.close())
	}
	return errors.Join(err, os.RemoveAll(m.dir))
}
