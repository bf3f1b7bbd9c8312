// The agent runs in the virtual machine of the tests and executes what the host asks for, each
// command on a connection of its own; package protocol has the words.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/test/vm/protocol"
)

func main() {
	if len(os.Args) > 1 {
		os.Exit(askGo(os.Args[1:]))
	}
	l, err := net.Listen("tcp4", protocol.Address)
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer conn.Close()
			s := session{conn: conn}
			if err := s.serve(); err != nil && !errors.Is(err, io.EOF) {
				log.Print(err)
			}
		}()
	}
}

// session is one command.
type session struct {
	conn  net.Conn
	write sync.Mutex
}

func (s *session) send(kind protocol.Kind, body []byte) error {
	s.write.Lock()
	defer s.write.Unlock()
	return protocol.Write(s.conn, kind, body)
}

func (s *session) serve() error {
	if err := protocol.Write(s.conn, protocol.KindHello, nil); err != nil {
		return err
	}
	var req protocol.Request
	if err := protocol.ReadJSON(s.conn, protocol.KindRequest, &req); err != nil {
		return err
	}
	status, err := json.Marshal(s.run(req))
	if err != nil {
		return err
	}
	return s.send(protocol.KindStatus, status)
}

// run executes a command, which is over when it has ended and nobody has its output open.
func (s *session) run(req protocol.Request) protocol.Status {
	cmd := exec.Command(req.Args[0], req.Args[1:]...)
	cmd.Dir = req.Dir
	cmd.Env = append(os.Environ(), req.Env...)
	start := s.pipes
	if req.Term {
		start = s.terminal
	}
	input, output, err := start(cmd, req)
	if err != nil {
		return protocol.Status{Error: err.Error()}
	}
	gone := make(chan struct{})
	go s.follow(cmd.Process.Pid, input, gone)
	state, err := cmd.Process.Wait()
	close(gone)
	if err != nil {
		return protocol.Status{Error: err.Error()}
	}
	output.Wait()
	ws := state.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return protocol.Status{Signal: int(ws.Signal())}
	}
	return protocol.Status{Code: ws.ExitStatus()}
}

// pipes starts a command whose streams are apart. It returns its standard input, and what waits
// for its output.
func (s *session) pipes(cmd *exec.Cmd, _ protocol.Request) (io.WriteCloser, *sync.WaitGroup, error) {
	in, stdin, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	cmd.Stdin = in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	output := &sync.WaitGroup{}
	for kind, stream := range map[protocol.Kind]*io.Writer{protocol.KindStdout: &cmd.Stdout, protocol.KindStderr: &cmd.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, nil, err
		}
		defer w.Close()
		*stream = w
		output.Go(func() { s.copy(kind, r) })
	}
	if err := cmd.Start(); err != nil {
		stdin.Close()
		return nil, nil, err
	}
	return stdin, output, nil
}

// terminal starts a command with a terminal.
func (s *session) terminal(cmd *exec.Cmd, req protocol.Request) (io.WriteCloser, *sync.WaitGroup, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: req.Rows, Col: req.Cols})
	}
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	output := &sync.WaitGroup{}
	output.Go(func() { s.copy(protocol.KindStdout, master) })
	return master, output, nil
}

func (s *session) copy(kind protocol.Kind, r *os.File) {
	defer r.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := r.Read(b)
		if n > 0 && s.send(kind, b[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

// follow does what the host wants of a command that runs. When the host leaves, the command's
// process group is killed.
func (s *session) follow(pid int, stdin io.WriteCloser, gone chan struct{}) {
	defer stdin.Close()
	for {
		kind, body, err := protocol.Read(s.conn)
		select {
		case <-gone:
			return
		default:
		}
		switch {
		case err != nil:
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			return
		case kind == protocol.KindStdin && len(body) > 0:
			_, _ = stdin.Write(body) // a command need not read what it is given
		case kind == protocol.KindStdin:
			stdin.Close()
		case kind == protocol.KindSignal:
			_ = syscall.Kill(-pid, syscall.Signal(body[0]))
		}
	}
}
