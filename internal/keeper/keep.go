// Package keeper looks after one container that lives on by itself.
//
// A keeper's life: corten starts the container and executes the keeper in its own place
// (Keep), with the lock. The keeper takes the container's output to its log until PID 1 has
// ended and nobody can write any more, says in the file ended how it was, and executes
// corten in its place, which undoes what the container held. If the container is to be
// started again, corten executes the keeper once more, to wait until that is due (Rest).
// A keeper that was killed is followed by another one, which a later command executes: it
// finds everything in the container's folder below RUN, and goes on.
//
// A container with a network of its own has its questions for names answered here (package
// resolve), and keepers have the host's rules made again that somebody has removed.
//
// It is linked into a program that sits beside every container: one thread that waits,
// little memory, and no package that would bring more (tidy_test.go).
package keeper

import (
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/callers"
	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/wire/standing"
)

// What an event is about. Streams have their own numbers, 0 and 1.
const (
	tagPID = 2 + iota
	tagSignal
	tagNotify
	tagWritten
	tagCompress
	tagProbe
	tagNames
	tagRestore
	tagCallers
	tagAnswered
)

// keep is a keeper at work.
type keep struct {
	folder   string // RUN/keep/ID
	args     []string
	orders   Orders
	poll     int
	signals  int
	proc     process
	ended    *Ended
	pump     *pump
	stdin    int
	notify   int
	compress compressing
	probe    probing
	network  network
	upgrade  bool // to be done when no child is left
}

// compressing is a child that compresses older files of the log.
type compressing struct {
	child
	more bool // to compress, when it is done
}

// probing is a child that checks the health.
type probing struct {
	child
	due int64 // ns by the monotonic clock
}

// Keep looks after a container until it has ended, and executes what comes next. It returns
// only if that is not possible. args are what the program was called with.
func Keep(root, run, id string, args []string) error {
	if !isSmall() {
		inherit(all()...)
		return Become("/proc/self/exe", args...)
	}
	inherit()
	k := &keep{folder: Folder(run, id), args: args}
	k.compress.pidfd, k.probe.pidfd, k.network.restore.pidfd = -1, -1, -1
	k.network.callers = callers.New(portsFD, firstFree)
	var err error
	if k.signals, err = openSignals(); err != nil { // before anything that they tell of is looked at
		say(id, err)
		return err
	}
	if k.orders, err = ReadOrders(k.folder); err != nil {
		say(id, err)
		return err
	}
	if err := k.open(root); err != nil {
		say(id, err)
		return err
	}
	quiet()
	k.announce()
	k.left()
	for {
		if err := k.turn(); err != nil {
			return err
		}
	}
}

// open finds or makes all descriptors.
func (k *keep) open(root string) error {
	var err error
	if k.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	k.poll = high(k.poll)
	k.proc = openProcess(k.orders)
	streams := [2]*stream{{name: logs.Stdout, source: -1, spool: -1}, {name: logs.Stderr, source: -1, spool: -1}}
	if k.orders.Terminal {
		streams[0].source = k.orders.openMaster(k.proc)
	} else {
		streams[0].source = openFIFO(k.folder+"/"+StdoutName, stdoutFD, unix.O_RDONLY)
		streams[1].source = openFIFO(k.folder+"/"+StderrName, stderrFD, unix.O_RDONLY)
	}
	if k.stdin = openFIFO(k.folder+"/"+StdinName, stdinFD, unix.O_WRONLY); k.stdin < 0 {
		unix.Close(stdinFD) // the end of input came before us, or there is none
	}
	k.notify = k.openNotify()
	if k.pump, err = openPump(k.folder, LogFolder(root, k.orders.ID), k.orders.Log, streams); err != nil {
		return err
	}
	k.probe.due = k.nextProbe()
	k.network.rounds = standing.NewRounds(k.orders.Run)
	k.openNames()
	return k.watchAll()
}

// LogFolder is where the log of a container is.
func LogFolder(root, id string) string { return root + "/containers/" + id + "/log" }

func (k *keep) watchAll() error {
	for i, s := range k.pump.streams {
		s.ready = s.source >= 0
		s.came = k.pump.now()
		// At the edge: what has been seen is remembered here, and a FIFO that must wait
		// wakes nobody.
		if err := k.watch(s.source, i, unix.EPOLLIN|unix.EPOLLET); err != nil {
			return err
		}
	}
	if err := k.watch(k.signals, tagSignal, unix.EPOLLIN); err != nil {
		return err
	}
	if err := k.watch(k.pump.writer.event, tagWritten, unix.EPOLLIN|unix.EPOLLET); err != nil {
		return err
	}
	if err := k.watch(k.notify, tagNotify, unix.EPOLLIN); err != nil {
		return err
	}
	if k.proc.pidfd < 0 {
		k.died()
		return nil
	}
	return k.watch(k.proc.pidfd, tagPID, unix.EPOLLIN|unix.EPOLLONESHOT)
}

func (k *keep) watch(fd, tag int, events uint32) error {
	if fd < 0 {
		return nil
	}
	return unix.EpollCtl(k.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(tag)})
}

// turn does what there is to do, and waits for more.
func (k *keep) turn() error {
	next := k.pump.turn()
	now := k.pump.now()
	k.renew(now) // before another child is there
	if k.pump.rotated {
		k.pump.rotated = false
		k.squeeze()
	}
	if k.orders.Health.Interval > 0 && k.ended == nil {
		next = min(next, k.check(now))
	}
	next = min(next, k.connect(now))
	if k.ended != nil {
		if k.pump.finish(now) {
			return k.over()
		}
		next = min(next, now+silence)
	}
	var events [8]unix.EpollEvent
	n, err := unix.EpollWait(k.poll, events[:], wait(next, now))
	if err != nil && err != unix.EINTR {
		return err
	}
	for _, e := range events[:max(n, 0)] {
		k.event(int(e.Fd))
	}
	return nil
}

// renew executes the keeper anew, if it was asked to or has become large, when nothing is
// under way that the next program would not know of.
func (k *keep) renew(now int64) {
	program := k.orders.program()
	if !k.upgrade {
		if k.compress.runs+k.probe.runs+k.network.restore.runs < enough || k.network.callers.PIDFD >= 0 {
			return
		}
		program = "/proc/self/exe"
	}
	if k.pump.writer.busy || k.compress.pidfd >= 0 || k.probe.pidfd >= 0 || k.network.restore.pidfd >= 0 || k.network.names != nil && k.network.names.Busy(now) {
		return
	}
	k.upgrade, k.compress.runs, k.probe.runs, k.network.restore.runs = false, 0, 0, 0
	k.network.callers.Close()
	k.pump.counters.publish(k.folder, now, true)
	fds := []int{k.proc.pidfd, k.pump.streams[0].source, k.pump.streams[1].source, k.stdin, k.notify, portsFD}
	if k.network.names != nil {
		fds = append(fds, udpFD, tcpFD)
	}
	anew(program, k.args, fds...)
}

// wait is the time from now to next in ms, for epoll_wait(2).
func wait(next, now int64) int {
	if next == never {
		return -1
	}
	return int(min(max(0, next-now+1e6-1)/1e6, 3600e3))
}

func (k *keep) event(tag int) {
	switch tag {
	case 0, 1:
		k.pump.streams[tag].ready = true
	case tagPID:
		k.died()
	case tagSignal:
		k.signal()
	case tagNotify:
		k.relay()
	case tagWritten:
		k.pump.written()
	case tagCompress:
		k.compress.reap()
		k.pump.rotated = k.pump.rotated || k.compress.more
	case tagProbe:
		k.probe.reap()
		k.probe.due = k.nextProbe()
	case tagNames:
		k.network.ready = true
	case tagRestore:
		k.network.restore.reap()
	case tagCallers:
		args := []string{"corten-net", "proxy", k.orders.Root, k.orders.Run, k.orders.ID}
		_ = k.watch(k.network.callers.Called(k.orders.Net, args, environ(), k.pump.now()), tagAnswered, unix.EPOLLIN)
	case tagAnswered:
		k.network.callers.Answered(k.pump.now())
	}
}

// died learns how PID 1 ended. What it and others have written is still to be taken.
func (k *keep) died() {
	e := k.proc.end(k.folder)
	k.ended = &e
	k.network.callers.Close() // nobody is there any more, and the ports shall be free
	for _, s := range k.pump.streams {
		s.ready, s.came = s.source >= 0, k.pump.now()
	}
	k.pump.hurry()
}

// signal does what the signals ask for.
func (k *keep) signal() {
	for {
		switch readSignal(k.signals) {
		case 0:
			return
		case unix.SIGHUP:
			k.upgrade = true
		case unix.SIGUSR1:
			k.closeStdin()
		case unix.SIGUSR2:
			k.reorder()
		}
	}
}

// closeStdin is the end of input for the container, for good: the name goes too, so that
// neither a client nor the next keeper opens it again.
func (k *keep) closeStdin() {
	_ = unix.Unlink(k.folder + "/" + StdinName)
	if k.stdin >= 0 {
		unix.Close(k.stdin)
		k.stdin = -1
	}
}

// reorder reads the orders again. What cannot be read is not followed.
func (k *keep) reorder() {
	o, err := ReadOrders(k.folder)
	if err != nil {
		return
	}
	old := k.orders
	k.orders = o
	k.pump.order(o.Log)
	k.probe.due = k.nextProbe()
	k.reconnect(old)
}

// over says how the container ended and hands on.
func (k *keep) over() error {
	k.pump.counters.publish(k.folder, k.pump.now(), true)
	if err := k.ended.Write(k.folder); err != nil {
		if unix.Access(k.folder, unix.F_OK) == unix.ENOENT {
			return err // somebody has cleared RUN, and the next command finds out that the container is gone
		}
		// There is no room in RUN. Without the file the next keeper would ask again, and be
		// told less.
		unix.Nanosleep(&unix.Timespec{Sec: 1}, nil)
		return nil
	}
	return k.orders.hand("end")
}

// squeeze has older files of the log compressed, by one process at a time.
func (k *keep) squeeze() {
	k.compress.more = k.compress.pidfd >= 0
	if !k.orders.Log.Compress || k.compress.pidfd >= 0 {
		return
	}
	if k.compress.start(k.orders.Corten, k.orders.command("compress", k.pump.logFolder)) == nil {
		_ = k.watch(k.compress.pidfd, tagCompress, unix.EPOLLIN)
	}
}

// left compresses what the last keeper has left.
func (k *keep) left() {
	if logs.Compressible(k.pump.logFolder) {
		k.squeeze()
	}
}

// nextProbe is when the health is to be checked next.
func (k *keep) nextProbe() int64 {
	h := k.orders.Health
	every := h.Interval
	if h.StartInterval > 0 && h.StartPeriod > 0 && k.orders.age() < h.StartPeriod {
		every = h.StartInterval
	}
	return k.pump.now() + every
}

// check has the health checked when it is time, by one process at a time.
func (k *keep) check(now int64) (next int64) {
	if k.probe.pidfd >= 0 {
		return never
	}
	if now < k.probe.due {
		return k.probe.due
	}
	if k.probe.start(k.orders.Corten, k.orders.command("probe", k.orders.ID)) != nil {
		k.probe.due = k.nextProbe()
		return k.probe.due
	}
	_ = k.watch(k.probe.pidfd, tagProbe, unix.EPOLLIN)
	return never
}
