// Package criu has the program criu write processes to files, and make them again from files.
//
// A Request is one run of "criu swrk", which takes its orders by a socket: messages of protocol buffers,
// as images/rpc.proto of CRIU describes them. While criu works it tells of stages (Stage), and goes on when they are
// answered: if we end, a dump lets its processes go on, and a restore ends them.
package criu

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Type is what criu is to do: criu_req_type.
type Type int64

// The types.
const (
	Dump     Type = 1
	Restore  Type = 2
	PreDump  Type = 4
	notify   Type = 6
	features Type = 9
)

// Groups is what becomes of control groups: criu_cg_mode.
type Groups int64

// The modes. Of IgnoreGroups criu knows nothing of them.
const (
	IgnoreGroups Groups = 0
	SoftGroups   Groups = 3
	FullGroups   Groups = 4
	StrictGroups Groups = 5
)

// Request is what criu is asked for.
type Request struct {
	Type    Type
	Of      Of       // a dump
	Root    string   // of a restore: where the root is mounted; it has to be a mount point
	Images  *os.File // the folder of the images
	Work    *os.File // the folder of Log and of what criu makes for itself
	Log     string   // a file name
	Allow   Allow
	Groups  Groups
	EmptyNS uint64 // CLONE_NEWNET: the network namespace is made, and nothing in it

	External []string  // what is not criu's to write and to make: "mnt[/dev]:dev", "file[1b:2f]"
	Inherit  []Inherit // what takes its place in a restore
	Memory   Memory
	Labels   Labels
	Talk     Talk
}

// Of is what a dump is of.
type Of struct {
	PID    int    // the first process
	Frozen string // the group by which the processes are frozen; empty: they are not
	Parent string // the folder of the images before these, relative to Images
}

// Allow is what is done although it takes more than the processes themselves.
type Allow struct {
	LeaveRunning, TCP, TCPSkipInFlight, UnixSockets, Shell, FileLocks, LinkRemap bool
}

// Memory is how memory is written.
type Memory struct {
	Track, Dedup, Lazy bool
	Server             string // of pages: address
	Port               int
	Status             *os.File // takes a zero byte when Lazy is ready
}

// Labels are what processes and mounts have of security modules.
type Labels struct{ Profile, Mount string }

// PreResume is the last stage before processes run that were restored. criu does not take back any more what it has done:
// who says no has ended the processes, and criu, which traces them, is ended for them to be gone.
const PreResume = "pre-resume"

// Inherit is a file that takes the place of one that criu did not write.
type Inherit struct {
	Key  string // "pipe:[4711]", "file[1b:2f]", the name of an external namespace
	File *os.File
}

// Talk is how we and criu come together.
type Talk struct {
	// Stage is told how far criu is, with the number of the first process in a restore, and maybe a file. An
	// error ends the work; see PreResume. nil: nobody wants to know.
	Stage func(name string, pid int, file *os.File) error

	Attr    *syscall.SysProcAttr // criu's own; nil: as we are
	Started func(pid int) error  // is told of criu, before it is asked; nil: nobody wants to know
	Path    string               // a folder whose programs criu takes first

	tracks *bool // takes the answer to features
}

// socketFD is where criu has its socket, and after it the files that it inherits.
const socketFD = 3

// Run has a request done. It returns the number of the first process of a restore, which is our child.
func Run(r Request) (pid int, err error) {
	what := map[Type]string{Dump: "write processes", PreDump: "write memory", Restore: "make processes from", features: "look at the kernel"}[r.Type]
	program, err := find()
	if err != nil {
		return 0, err
	}
	sock, child, err := socketPair()
	if err != nil {
		return 0, errs.Wrap("make sockets for", program, err)
	}
	defer sock.Close()
	said, err := memfd() // not a pipe, of which those that criu leaves when it is killed would keep the end
	if err != nil {
		return 0, err
	}
	defer said.Close()
	cmd := exec.Command(program, "swrk", fmt.Sprint(socketFD))
	cmd.ExtraFiles = append([]*os.File{child}, r.files()...)
	cmd.Dir, cmd.Stderr, cmd.SysProcAttr = "/", said, r.Talk.Attr
	// criu 3.17 fails on newer kernels to take back what the C library has registered of it, rseq(2).
	cmd.Env = append(os.Environ(), "GLIBC_TUNABLES=glibc.pthread.rseq=0")
	if r.Talk.Path != "" {
		cmd.Env = append(cmd.Env, "PATH="+r.Talk.Path+":"+os.Getenv("PATH"))
	}
	err = cmd.Start()
	child.Close()
	if err != nil {
		return 0, errs.Wrap("start", program, err)
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		return 0, errs.Wrap("open process of", program, err)
	}
	defer unix.Close(pidfd)
	if r.Talk.Started != nil {
		if err := r.Talk.Started(cmd.Process.Pid); err != nil {
			sock.Close()
			_ = cmd.Wait()
			return 0, err
		}
	}
	pid, err = r.converse(peer{int(sock.Fd()), pidfd}, func() { _ = cmd.Process.Kill() })
	sock.Close()       // criu has nothing more to ask
	werr := cmd.Wait() // after a pre-dump it ends only now
	if err != nil && r.Type == Restore {
		endBegun()
	}
	if err == nil || !isEnd(err) {
		return pid, errs.Wrap("have criu "+what, "", err)
	}
	text := make([]byte, mostSaid)
	n, _ := said.ReadAt(text, 0)
	return 0, r.silent(what, werr, string(text[:n]))
}

// NoNewPrivs has criu, started by this thread, and all that it makes be without a way to new privileges, prctl(2): criu knows of
// that only since 3.19. The thread stays so.
func NoNewPrivs() error {
	return errs.Wrap("set no-new-privileges", "", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}

// mostSaid is bytes of what criu says that is looked at, before it has a log.
const mostSaid = 64 << 10

func memfd() (*os.File, error) {
	fd, err := unix.MemfdCreate("criu", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, errs.Wrap("make file in memory", "", err)
	}
	return os.NewFile(uintptr(fd), "criu's stderr"), nil
}

// endBegun ends the first process of a restore that came to nothing: it is our child, and waits for a criu that may have been
// killed. It is the one that is in another pid namespace than we are.
func endBegun() {
	own, _ := os.Readlink("/proc/self/ns/pid")
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, word := range strings.Fields(string(text)) {
			ns, err := os.Readlink("/proc/" + word + "/ns/pid")
			pid, _ := strconv.Atoi(word)
			if err == nil && own != "" && ns != own && pid > 1 {
				_ = unix.Kill(pid, unix.SIGKILL) // whoever knows it waits for it
			}
		}
	}
}

// variable names another program in the place of criu.
const variable = "CORTEN_CRIU"

// Environ is what programs are told that use criu, too.
func Environ() []string {
	if v := os.Getenv(variable); v != "" {
		return []string{variable + "=" + v}
	}
	return nil
}

func find() (string, error) {
	if v := os.Getenv(variable); v != "" {
		return v, nil
	}
	program, err := exec.LookPath("criu")
	if err != nil {
		return "", errs.New(errs.Unsupported, "find", "criu", err).WithHint("install the package criu")
	}
	return program, nil
}

func isEnd(err error) bool { return errors.Is(err, errEnd) }

// errEnd is that criu ended without an answer.
var errEnd = errors.New("criu ended before it was done")

// silent is why criu did not answer.
func (r Request) silent(what string, end error, said string) error {
	if end == nil {
		end = errEnd
	}
	e := errs.New(errs.Other, "have criu "+what, "", end).WithHint(r.seeLog())
	for _, line := range strings.Split(said, "\n") {
		if _, text, ok := strings.Cut(line, "Error ("); ok {
			_, text, _ = strings.Cut(text, "): ")
			return errs.New(errs.Unsupported, "have criu "+what, "", errors.New(strings.TrimSpace(text))).
				WithHint("criu check says whether it knows this kernel")
		}
	}
	return e
}

func (r Request) seeLog() string {
	if r.Work == nil || r.Log == "" {
		return ""
	}
	return "criu says more in " + filepath.Join(r.Work.Name(), r.Log)
}

// Check reports whether criu is there and knows this kernel.
func Check() error {
	_, err := Run(Request{Type: features}) // for which it looks at the kernel, as for what it is really wanted for
	return err
}

// TracksMemory reports whether the kernel tells criu what memory was written to since it was looked at
// (CONFIG_MEM_SOFT_DIRTY): what is written in advance is of no use otherwise.
func TracksMemory() bool {
	tracks := false
	_, err := Run(Request{Type: features, Talk: Talk{tracks: &tracks}})
	return err == nil && tracks
}

func socketPair() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(pair[0]), "criu"), os.NewFile(uintptr(pair[1]), "criu"), nil
}

// files is what criu inherits besides the socket.
func (r Request) files() (list []*os.File) {
	for _, i := range r.Inherit {
		list = append(list, i.File)
	}
	if r.Memory.Status != nil {
		list = append(list, r.Memory.Status)
	}
	return list
}

// mostAnswer is bytes of a message of criu.
const mostAnswer = 64 << 10

// converse asks, answers what criu asks, and returns how it went.
func (r Request) converse(with peer, end func()) (pid int, err error) {
	if err := with.send(r.message()); err != nil {
		return 0, err
	}
	buf, oob := make([]byte, mostAnswer), make([]byte, unix.CmsgSpace(4))
	for {
		n, on, err := with.receive(buf, oob)
		if err != nil {
			return 0, err
		}
		a, err := read(buf[:n])
		if err != nil {
			return 0, errs.New(errs.Corrupt, "read answer of", "criu", err)
		}
		if a.kind != notify {
			if r.Talk.tracks != nil {
				*r.Talk.tracks = a.track
			}
			return a.pid, r.result(a)
		}
		var file *os.File
		if on > 0 {
			file = passed(oob[:on])
		}
		var no error
		if r.Talk.Stage != nil {
			no = r.Talk.Stage(a.stage, a.pid, file)
		}
		if no != nil && a.stage == PreResume {
			end()
			return 0, no
		}
		var m message
		m.number(1, int64(notify))
		m.flag(3, no == nil)
		err = with.send(m)
		if no != nil { // criu takes back what it has done
			_, _, _ = with.receive(buf, oob)
			return 0, no
		}
		if err != nil {
			return 0, errEnd
		}
	}
}

// peer is criu at the other end of the socket. What it has forked has the socket too, and may outlive it.
type peer struct{ sock, pidfd int }

func (p peer) send(m message) error {
	if _, err := unix.SendmsgBuffers(p.sock, [][]byte{m}, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return errEnd
	}
	return nil
}

// receive waits for a message, or the end of criu.
func (p peer) receive(buf, oob []byte) (n, on int, err error) {
	for {
		fds := []unix.PollFd{{Fd: int32(p.sock), Events: unix.POLLIN}, {Fd: int32(p.pidfd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		}
		if fds[0].Revents == 0 {
			return 0, 0, errEnd
		}
		n, on, _, _, err := unix.Recvmsg(p.sock, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return 0, 0, errEnd
		}
		return n, on, nil
	}
}

// passed is the file that came with a message.
func passed(oob []byte) *os.File {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(list) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil || len(fds) == 0 {
		return nil
	}
	return os.NewFile(uintptr(fds[0]), "of criu")
}

// answer is criu_resp.
type answer struct {
	kind  Type
	good  bool
	stage string
	pid   int
	errno syscall.Errno
	text  string
	track bool // criu_features: mem_track
}

func read(b []byte) (a answer, err error) {
	err = fields(b, func(field, n uint64, _ int, text []byte) {
		switch field {
		case 1:
			a.kind = Type(n)
		case 2:
			a.good = n != 0
		case 4: // criu_restore_resp
			err = errors.Join(err, fields(text, func(field, n uint64, _ int, _ []byte) {
				if field == 1 {
					a.pid = int(n)
				}
			}))
		case 5: // criu_notify
			err = errors.Join(err, fields(text, func(field, n uint64, _ int, text []byte) {
				switch field {
				case 1:
					a.stage = string(text)
				case 2:
					a.pid = int(n)
				}
			}))
		case 7:
			a.errno = syscall.Errno(n)
		case 8:
			err = errors.Join(err, fields(text, func(field, n uint64, _ int, _ []byte) { a.track = a.track || field == 1 && n != 0 }))
		case 9:
			a.text = string(text)
		}
	})
	return a, err
}

func (r Request) result(a answer) error {
	if a.good {
		return nil
	}
	var cause error = errors.New("it did not succeed")
	if text := r.firstError(a.text); text != "" {
		cause = errors.New(text)
	} else if a.errno != 0 {
		cause = a.errno
	}
	return errs.New(errs.Other, "", "", cause).WithHint(r.seeLog())
}

// firstError is what went wrong first, by the log or else by the answer. That limits cannot be raised is
// no error: criu tries.
func (r Request) firstError(answer string) string {
	text := answer
	if r.Work != nil {
		if b, err := os.ReadFile(filepath.Join(r.Work.Name(), r.Log)); err == nil {
			text = string(b)
		}
	}
	for line := range strings.Lines(text) {
		if _, rest, ok := strings.Cut(line, "Error ("); ok && !strings.Contains(line, "rlimit: ") {
			_, rest, _ = strings.Cut(rest, "): ")
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// message is the request as criu_req, whose options are criu_opts.
func (r Request) message() message {
	var m message
	m.number(1, int64(r.Type))
	switch r.Type {
	case features:
		var want message
		want.flag(1, true)
		m.part(5, want)
	default:
		m.part(2, r.options())
	}
	return m
}

func (r Request) options() (o message) {
	o.number(1, int64(r.Images.Fd()))
	if r.Of.PID != 0 {
		o.number(2, int64(r.Of.PID))
	}
	a, mem := r.Allow, r.Memory
	o.flag(3, a.LeaveRunning)
	o.flag(4, a.UnixSockets)
	o.flag(5, a.TCP)
	o.flag(7, a.Shell)
	o.flag(8, a.FileLocks)
	o.number(9, 4) // all that it does
	o.text(10, r.Log)
	if mem.Server != "" {
		var ps message
		ps.text(1, mem.Server)
		ps.number(2, int64(mem.Port))
		o.part(11, ps)
	}
	o.flag(12, r.Talk.Stage != nil)
	o.text(13, r.Root)
	o.text(14, r.Of.Parent)
	o.flag(15, mem.Track)
	o.flag(16, mem.Dedup)
	if r.Work != nil {
		o.number(17, int64(r.Work.Fd()))
	}
	o.flag(18, a.LinkRemap)
	o.flag(24, r.Groups != IgnoreGroups)
	o.flag(26, r.Type == Restore) // as a child of ours
	for i, h := range r.Inherit {
		var p message
		p.text(1, h.Key)
		p.number(2, int64(socketFD+1+i))
		o.part(27, p)
	}
	o.number(34, int64(r.Groups))
	o.texts(37, r.External)
	if r.EmptyNS != 0 {
		o.number(38, int64(r.EmptyNS))
	}
	o.text(44, r.Of.Frozen)
	o.flag(46, a.TCPSkipInFlight)
	o.flag(48, mem.Lazy)
	if mem.Status != nil {
		o.number(49, int64(socketFD+1+len(r.Inherit)))
	}
	o.flag(50, true) // the master of a terminal is ours
	o.text(53, r.Labels.Profile)
	o.text(63, r.Labels.Mount)
	return o
}
