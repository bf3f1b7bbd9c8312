package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cortenhq/corten/test/vm/protocol"
)

// Cmd is a command in the guest, as root in the root folder. Many can run at once.
type Cmd struct {
	Args   []string
	Env    []string // besides PATH and what else systemd gives its services
	Dir    string
	Stdin  io.Reader // none, if it is nil
	Stdout io.Writer
	Stderr io.Writer
	// Signals are passed on to it.
	Signals <-chan os.Signal
	// Terminal gives it a terminal of that many rows and columns, whose output is all Stdout's.
	Terminal [2]int

	port int
}

// ExitError is how a command ended that did not succeed.
type ExitError struct {
	Args   []string
	Code   int
	Signal int    // what it died of
	Reason string // why it was not executed
	Stderr string // the end of it, if the command's Stderr was nil
}

// Error says what was run, how it ended, and what it said of it.
func (e *ExitError) Error() string {
	how := "exit status " + strconv.Itoa(e.Code)
	switch {
	case e.Reason != "":
		how = e.Reason
	case e.Signal != 0:
		how = "killed by signal " + strconv.Itoa(e.Signal)
	}
	return strings.TrimSpace(fmt.Sprintf("in the machine: %s: %s\n%s", strings.Join(e.Args, " "), how, e.Stderr))
}

// Command is a command in the guest, which Run or Output executes.
func (m *Machine) Command(name string, args ...string) *Cmd {
	if p := m.power.Load(); p != nil {
		return CommandAt(p.port, name, args...)
	}
	return CommandAt(0, name, args...)
}

// CommandAt is the same for a machine that another process has, by the port of its agent.
func CommandAt(port int, name string, args ...string) *Cmd {
	return &Cmd{Args: append([]string{name}, args...), port: port}
}

// Shell is a script for bash in the guest.
func (m *Machine) Shell(script string) *Cmd { return m.Command("bash", "-c", script) }

// Output runs the command and returns what it wrote to its standard output.
func (c *Cmd) Output(ctx context.Context) (string, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run(ctx)
	return out.String(), err
}

// Run executes the command and waits for its end and that of its output. If it does not exit with
// 0 the error is an *ExitError; any other error means that the connection ended, as it does when
// the machine loses power, and when ctx is done, which kills the command.
func (c *Cmd) Run(ctx context.Context) error {
	if c.port == 0 {
		return errors.New("the machine is off")
	}
	conn, err := dial(ctx, c.port)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	req := protocol.Request{Args: c.Args, Env: c.Env, Dir: c.Dir}
	if c.Terminal != [2]int{} {
		req.Term, req.Rows, req.Cols = true, uint16(c.Terminal[0]), uint16(c.Terminal[1])
	}
	if err := protocol.WriteJSON(conn, protocol.KindRequest, req); err != nil {
		return err
	}
	sender := &sender{conn: conn}
	go c.feed(sender)
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case s := <-c.Signals:
				_ = sender.send(protocol.KindSignal, []byte{byte(s.(syscall.Signal))})
			case <-over:
				return
			}
		}
	}()
	err = c.drain(conn)
	return cmpErr(ctx.Err(), err)
}

// sender sends one frame at a time.
type sender struct {
	mu   sync.Mutex
	conn net.Conn
}

func (s *sender) send(kind protocol.Kind, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return protocol.Write(s.conn, kind, body)
}

// cmpErr prefers the reason for which a connection was closed to what the connection says of it.
func cmpErr(reason, err error) error {
	if reason != nil && err != nil {
		return reason
	}
	return err
}

// feed sends the standard input until it or the connection ends.
func (c *Cmd) feed(to *sender) {
	b := make([]byte, 64<<10)
	for c.Stdin != nil {
		n, err := c.Stdin.Read(b)
		if n > 0 && to.send(protocol.KindStdin, b[:n]) != nil {
			return
		}
		if err != nil {
			break
		}
	}
	if c.Terminal == [2]int{} {
		_ = to.send(protocol.KindStdin, nil) // drain learns of the connection's end
	}
}

// drain receives output until the command is over.
func (c *Cmd) drain(conn net.Conn) error {
	var said tail
	stdout, stderr := c.Stdout, c.Stderr
	if stdout == nil {
		stdout = io.Discard
	}
	if stderr == nil {
		stderr = &said
	}
	for {
		kind, body, err := protocol.Read(conn)
		if err != nil {
			return fmt.Errorf("the connection to the machine: %w", err)
		}
		switch kind {
		case protocol.KindStdout:
			_, err = stdout.Write(body)
		case protocol.KindStderr:
			_, err = stderr.Write(body)
		case protocol.KindStatus:
			return c.status(body, string(said))
		}
		if err != nil {
			return err
		}
	}
}

func (c *Cmd) status(body []byte, said string) error {
	var s protocol.Status
	if err := json.Unmarshal(body, &s); err != nil {
		return err
	}
	if s == (protocol.Status{}) {
		return nil
	}
	return &ExitError{Args: c.Args, Code: s.Code, Signal: s.Signal, Reason: s.Error, Stderr: said}
}

// tail keeps the end of what is written to it.
type tail []byte

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	*t = append(*t, b...)
	*t = (*t)[max(0, len(*t)-4000):]
	return len(b), nil
}

// dial connects with the agent. QEMU takes every connection, and ends those that nobody in the
// guest takes.
func dial(ctx context.Context, port int) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	kind, _, err := protocol.Read(conn)
	stop()
	if err == nil && kind != protocol.KindHello {
		err = fmt.Errorf("the agent begins with a frame of kind %d", kind)
	}
	if err != nil {
		return nil, errors.Join(cmpErr(ctx.Err(), err), conn.Close())
	}
	return conn, nil
}

// await returns when the agent answers.
func (m *Machine) await(ctx context.Context) error {
	p := m.power.Load()
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		conn, err := dial(try, p.port)
		cancel()
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.over:
			return fmt.Errorf("QEMU ended: %w", cmpErr(p.err, err))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// CopyIn unpacks a tar in a folder of the guest, with its owners.
func (m *Machine) CopyIn(ctx context.Context, tar io.Reader, dir string) error {
	c := m.Command("tar", "-x", "--same-owner", "-p", "-C", dir)
	c.Stdin = tar
	return c.Run(ctx)
}

// Copy copies files or folders of the host into a folder of the guest, which has to be there.
func (m *Machine) Copy(ctx context.Context, dir string, paths ...string) error {
	args := []string{"--sparse", "-c"}
	for _, path := range paths {
		path, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		args = append(args, "-C", filepath.Dir(path), filepath.Base(path))
	}
	return m.copyTar(ctx, dir, args)
}

func (m *Machine) copyTar(ctx context.Context, dir string, args []string) error {
	var said bytes.Buffer
	tar := exec.CommandContext(ctx, "tar", args...)
	tar.Stderr = &said
	out, err := tar.StdoutPipe()
	if err != nil {
		return err
	}
	if err := tar.Start(); err != nil {
		return err
	}
	err = m.CopyIn(ctx, out, dir)
	out.Close()
	if e := tar.Wait(); e != nil && err == nil {
		err = fmt.Errorf("tar: %w\n%s", e, said.String())
	}
	return err
}

// Install copies what `make install` installs: this tree's programs, units and profile of AppArmor.
func (m *Machine) Install(ctx context.Context) error {
	begun := time.Now()
	tree, err := Tree()
	if err != nil {
		return err
	}
	dest := filepath.Join(m.dir, "install")
	defer os.RemoveAll(dest)
	if err := command("make", "-s", "-C", tree, "install", "PREFIX=/usr/local", "DESTDIR="+dest); err != nil {
		return err
	}
	if err := m.copyTar(ctx, "/", []string{"-c", "--owner=0", "--group=0", "-C", dest, "usr", "etc"}); err != nil {
		return err
	}
	if err := m.Command("systemctl", "daemon-reload").Run(ctx); err != nil {
		return err
	}
	m.opts.Log("installed Corten in %.1f s", time.Since(begun).Seconds())
	return nil
}
