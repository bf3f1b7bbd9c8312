package usernet

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/lsm"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Where a container asks the host's servers for names: an address that nobody has (RFC 3927), and
// the one that slirp4netns has for it.
const (
	pastaNames = "169.254.1.1"
	slirpNames = "10.0.2.3"
	slirpGuest = "10.0.2.100"
)

// Kinds of files in RUN/net/user.
const (
	pidKind  = ".pid"
	sockKind = ".sock"
)

// program is the process that connects a container; 0 if it is gone. That its command line names a
// file of the container's proves that it is no other one with the same number.
func program(run string, id spec.ContainerID) int {
	b, _ := os.ReadFile(file(run, id, pidKind))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	if pid <= 0 {
		return 0
	}
	line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if !bytes.Contains(line, []byte(string(id)+".")) {
		return 0
	}
	return pid
}

// command is a program that has nothing of ours and lives on: in a session of its own.
func (p *Plug) command(args ...string) *exec.Cmd {
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) // Linux 5.11; what a shell had open without saying so
	cmd := exec.Command(p.path, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// namespace is a namespace of a process.
func namespace(pid int, kind string) string {
	return "/proc/" + strconv.Itoa(pid) + "/ns/" + kind
}

// pasta copies addresses and routes of the host to the container's interface. It goes on in the
// background once it has all that it wants. What listens on the host's loopback is out of reach.
func (p *Plug) pasta(pid int) (func() error, error) {
	args := []string{"--config-net", "--quiet", "--ns-ifname", p.Doc.Links[0].Interface, "--no-map-gw", "--pid", file(p.run, p.Doc.ID, pidKind),
		"-T", "none", "-U", "none"}
	if p.names {
		args = append(args, "--dns-forward", pastaNames)
	}
	for _, proto := range [...]spec.Protocol{spec.TCP, spec.UDP} {
		flag, list := "-"+string(proto[0]), pastaPorts(p.Doc.Ports, proto)
		if len(list) == 0 {
			list = []string{"none"}
		}
		for _, s := range list {
			args = append(args, flag, s)
		}
	}
	cmd := p.command(append(args, "--netns", namespace(pid, "net"), "--userns", namespace(pid, "user"))...)
	var said bytes.Buffer
	cmd.Stderr = &said
	// Until it goes on in the background nobody would find it, so it ends with us.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return nil, errs.Wrap("start", p.path, err)
	}
	return func() error {
		if err := cmd.Wait(); err != nil {
			return failed("pasta", said.String(), err)
		}
		return nil
	}, nil
}

// pastaPorts are ports as pasta is told of them: [ADDRESS/]PORT:PORT. Without an address it listens
// in both families.
func pastaPorts(list []wiring.Forward, proto spec.Protocol) (out []string) {
	for _, f := range list {
		text := strconv.Itoa(int(f.HostPort)) + ":" + strconv.Itoa(int(f.Port))
		switch {
		case f.Protocol != proto || f.HostIP.IsUnspecified() && f.HostIP.Is6() && both(list, f):
			continue
		case !f.HostIP.IsUnspecified() || !both(list, f):
			text = f.HostIP.String() + "/" + text
		}
		out = append(out, text)
	}
	return out
}

// both reports whether a port is published at all addresses of both families.
func both(list []wiring.Forward, f wiring.Forward) bool {
	n := 0
	for _, o := range list {
		if o.HostIP.IsUnspecified() && o.Service == f.Service && o.HostPort == f.HostPort {
			n++
		}
	}
	return n > 1
}

// failed is why a program could not connect the container, in its own words.
func failed(name, said string, err error) error {
	var lines []string
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "to syslog") {
			lines = append(lines, line)
		}
	}
	hint := "corten doctor tells what is missing; --network none does without"
	mode, _ := lsm.Profile("passt")
	switch {
	case mode == "enforce" && strings.Contains(said, "ermission denied"):
		hint = "the profile of passt that AppArmor has here does not know containers: --network slirp4netns does without it, and root may remove it: apparmor_parser -R /etc/apparmor.d/usr.bin.passt"
	case strings.Contains(said, "tun") || strings.Contains(said, "tap"):
		hint = "it takes /dev/net/tun, open for all as udev makes it: chmod 0666 /dev/net/tun"
	case strings.Contains(said, "External interface") || strings.Contains(said, "routable interface"):
		hint = "the host has no default route that it could use: --network none or host do without"
	}
	if len(lines) > 0 {
		err = errs.New(errs.Other, "", "", &words{strings.Join(lines, "; "), err})
	}
	return errs.Wrap("connect with", name, err).(*errs.Error).WithHint(hint)
}

// words is an error with what a program said about it.
type words struct {
	text string
	err  error
}

func (w *words) Error() string { return w.text }
func (w *words) Unwrap() error { return w.err }

// slirp is for hosts without pasta: an address of its own behind a translation, and slower. Its ports
// are asked for by a socket.
func (p *Plug) slirp(pid int) (func() error, error) {
	rd, wr, err := os.Pipe()
	if err != nil {
		return nil, errs.Wrap("make pipe", "", err)
	}
	defer wr.Close()
	cmd := p.command("--configure", "--mtu=65520", "--disable-host-loopback", "--enable-ipv6", "--ready-fd=3",
		"--api-socket="+string(p.Doc.ID)+sockKind, "--userns-path="+namespace(pid, "user"), "--netns-type=path", namespace(pid, "net"), p.Doc.Links[0].Interface)
	cmd.ExtraFiles = []*os.File{wr}
	cmd.Dir = filepath.Join(p.run, "net/user") // a socket's path has at most 107 bytes, unix(7)
	said, err := os.CreateTemp(p.run, ".slirp-")
	if err == nil {
		defer said.Close()
		err = os.Remove(said.Name())
	}
	if err != nil {
		rd.Close()
		return nil, errs.Wrap("make file in", p.run, err)
	}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		rd.Close()
		return nil, errs.Wrap("start", p.path, err)
	}
	if err := os.WriteFile(file(p.run, p.Doc.ID, pidKind), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		_ = cmd.Process.Kill()
		rd.Close()
		return nil, errs.Wrap("connect with", "slirp4netns", err)
	}
	log, err := os.Open("/proc/self/fd/" + strconv.Itoa(int(said.Fd())))
	if err != nil {
		rd.Close()
		return nil, errs.Wrap("connect with", "slirp4netns", err)
	}
	return func() error {
		defer rd.Close()
		defer log.Close()
		var b [1]byte
		if n, err := rd.Read(b[:]); n == 0 { // it ended
			_ = cmd.Wait()
			text := make([]byte, 4096)
			n, _ := log.ReadAt(text, 0)
			return failed("slirp4netns", string(text[:n]), err)
		}
		return p.slirpPorts()
	}, nil
}

// slirpPorts has slirp4netns publish the ports: one request for each connection to its socket,
// slirp4netns(1), "API socket".
func (p *Plug) slirpPorts() error {
	for _, f := range p.Doc.Ports {
		request := map[string]any{"execute": "add_hostfwd", "arguments": map[string]any{
			"proto": f.Protocol, "host_addr": f.HostIP.String(), "host_port": f.HostPort, "guest_addr": slirpGuest, "guest_port": f.Port}}
		b, err := json.Marshal(request)
		if err != nil {
			return err
		}
		answer, err := ask(file(p.run, p.Doc.ID, sockKind), b)
		if err == nil && bytes.Contains(answer, []byte(`"error"`)) {
			err = &words{string(answer), nil}
		}
		if err != nil {
			return errs.Wrap("publish", strconv.Itoa(int(f.HostPort))+" by slirp4netns", err)
		}
	}
	return nil
}

func ask(path string, request []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	// A path may be longer than the 107 bytes that an address has room for, unix(7).
	dir, err := os.Open(path[:strings.LastIndexByte(path, '/')])
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	short := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + path[strings.LastIndexByte(path, '/'):]
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: short}); err != nil {
		return nil, err
	}
	tv := unix.NsecToTimeval(int64(10 * time.Second))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	if _, err := unix.Write(fd, request); err != nil {
		return nil, err
	}
	_ = unix.Shutdown(fd, unix.SHUT_WR)
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	return b[:max(n, 0)], err
}
