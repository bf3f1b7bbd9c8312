// Package attendant starts corten-net, and speaks with it by a socket: the orders and answers of LIFECYCLE.md.
package attendant

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
)

// Mode is what corten-net is to do.
type Mode string

// The modes; LIFECYCLE.md says who asks for which.
const (
	Tend    Mode = "tend"    // connect a container, and disconnect it when we ask for it or end
	Up      Mode = "up"      // connect a container
	Down    Mode = "down"    // disconnect it
	Restore Mode = "restore" // make the rules of all containers anew
	Prune   Mode = "prune"   // so, and take bridges away that no container is on
	Change  Mode = "change"  // make true what a document says now
	Unplug  Mode = "unplug"  // have plugins undo what they could not at the end of containers
)

// Attendant is corten-net at work, and our end of the socket that it takes orders by. It notices when we end.
type Attendant struct {
	sock int // -1: closed
}

// socketFD is corten-net's end.
const socketFD = 3

// maxPacket is more than any packet of corten-net has.
const maxPacket = 16 << 10

// Begin starts corten-net. In the modes Tend and Up it begins with what the document of the container says, and
// waits to be told of a process. This is on the way of every start. In the mode Tend it may be given a box of ports that it
// answers at (ports.Hear).
func Begin(root, run string, m Mode, id spec.ContainerID, box ...*os.File) (*Attendant, error) {
	program, err := programs.Find("corten-net")
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errs.Wrap("make sockets for", program, err)
	}
	defer unix.Close(pair[1])
	args := []string{string(m), root, run}
	if id != "" {
		args = append(args, string(id))
	}
	fds := []uintptr{uintptr(pair[1])} // from socketFD on
	for _, f := range box {
		fds = append(fds, f.Fd())
	}
	err = start(program, fds, m == Up || m == Down, args...)
	if err != nil {
		unix.Close(pair[0])
		return nil, errs.Wrap("start", program, err)
	}
	return &Attendant{sock: pair[0]}, nil
}

// start starts a program in a session of its own, with some descriptors and nothing else of ours: no
// terminal, pipe or lock that it would keep from being let go. Nobody waits for it, and a keeper's process
// lives on for as long as its container: so what that starts becomes a child of its parent, which
// is init by then. Else it would be a zombie all that time.
func start(program string, fds []uintptr, sibling bool, args ...string) error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	_ = unix.CloseRange(socketFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) // Linux 5.11; what a shell had open without saying so
	sys := &syscall.SysProcAttr{Setsid: true}
	if sibling {
		sys.Cloneflags = unix.CLONE_PARENT
	}
	_, err = syscall.ForkExec(program, append([]string{"corten-net"}, args...), &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Files: append([]uintptr{uintptr(null), uintptr(null), uintptr(null)}, fds...),
		Sys:   sys,
	})
	return err
}

// Tell tells of the process in whose namespace the interfaces are wanted.
func (a *Attendant) Tell(pid int) error {
	err := retry(func() error {
		return unix.Sendto(a.sock, []byte(strconv.Itoa(pid)), unix.MSG_NOSIGNAL, nil)
	})
	if err == unix.EPIPE || err == unix.ECONNRESET { // it ended before: what it said tells more
		_, err = a.Await()
	}
	return errs.Wrap("connect", "process "+strconv.Itoa(pid), err)
}

// Await waits until they are there. In the mode Up, if the container has a resolver, it returns that one's sockets: UDP, and
// the listener for TCP.
func (a *Attendant) Await() ([]*os.File, error) {
	b, oob := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(4*4))
	var n, oobn int
	receive := func() (err error) {
		n, oobn, _, _, err = unix.Recvmsg(a.sock, b, oob, unix.MSG_CMSG_CLOEXEC)
		return err
	}
	err := retry(receive)
	if err == unix.ECONNRESET { // it ended before it read all of ours; that is told once, before what it has said
		err = retry(receive)
	}
	if err != nil {
		return nil, errs.Wrap("wait for", "corten-net", err)
	}
	files := received(oob[:oobn])
	if err := readAnswer(b[:n]); err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, err
	}
	return files, nil
}

func received(oob []byte) []*os.File {
	var files []*os.File
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "resolver"))
		}
	}
	return files
}

const done = "ok"

func readAnswer(b []byte) error {
	if string(b) == done {
		return nil
	}
	if len(b) == 0 {
		return errs.Newf(errs.Unavailable, "wait for", "corten-net", "it ended without an answer").WithHint("try again; the next command undoes what it left")
	}
	var p errs.Parts
	if err := json.Unmarshal(b, &p); err != nil {
		return errs.New(errs.Internal, "wait for", "corten-net", err)
	}
	return p.Whole()
}

// Finish asks corten-net to disconnect the container, and does not wait for it.
func (a *Attendant) Finish() {
	if a.sock >= 0 {
		_ = unix.Shutdown(a.sock, unix.SHUT_WR)
	}
}

// End asks corten-net to disconnect the container and waits until all is gone that others could meet. The attendant is then closed; with an
// error it may not have come to that, and the mode Down tries again.
func (a *Attendant) End(ctx context.Context) error {
	a.Finish()
	return a.Wait(ctx)
}

// Wait waits for an answer, and closes.
func (a *Attendant) Wait(ctx context.Context) error {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = unix.Shutdown(a.sock, unix.SHUT_RDWR) // it wakes who reads
		close(woken)
	})
	files, err := a.Await()
	for _, f := range files {
		f.Close()
	}
	if !stop() {
		<-woken
		if err != nil {
			err = errs.New(errs.Canceled, "wait for", "corten-net", context.Cause(ctx))
		}
	}
	a.Close()
	return err
}

// Close lets corten-net go. In the mode Tend, that disconnects the container.
func (a *Attendant) Close() {
	if a.sock >= 0 {
		_ = unix.Close(a.sock)
		a.sock = -1
	}
}

func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
