package keeper

import (
	"time"

	"golang.org/x/sys/unix"
)

// restMax is the longest pause before a start, in ns: whoever has to wait longer sees that the
// time of day was set back.
const restMax = 60 * second

// restLeft is how long to wait until a time, in ns.
func restLeft(until, now int64) int64 { return min(max(0, until-now), restMax) }

// Rest waits until a container is to be started again, or not any more, and executes what
// comes next. It returns only if that is not possible.
func Rest(root, run, id string, args []string) error {
	if !isSmall() {
		inherit(lockFD)
		return Become("/proc/self/exe", args...)
	}
	inherit()
	folder := Folder(run, id)
	o, err := ReadOrders(folder)
	until := int64(0)
	if err == nil {
		until, err = ReadRest(folder)
	}
	signals := -1
	if err == nil {
		signals, err = openSignals()
	}
	if err != nil {
		say(id, err)
		return err
	}
	quiet()
	begun := time.Now()
	pausing := restLeft(until, begun.UnixNano())
	for {
		if unix.Access(folder+"/"+StopName, unix.F_OK) == nil {
			return o.hand("end")
		}
		left := pausing - int64(time.Since(begun)) // by the monotonic clock
		if left <= 0 {
			return o.hand("start")
		}
		upgrade, now := pause(signals, left)
		if now {
			pausing = 0
		}
		if upgrade {
			anew(o.program(), args)
		}
	}
}

// pause waits, but not longer than until a signal comes, and says whether that was SIGHUP or
// SIGTERM: the program is to be executed anew, or the pause is over.
func pause(signals int, ns int64) (upgrade, now bool) {
	fds := []unix.PollFd{{Fd: int32(signals), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds, wait(ns, 0))
	for {
		switch readSignal(signals) {
		case 0:
			return upgrade, now
		case unix.SIGHUP:
			upgrade = true
		case unix.SIGTERM:
			now = true
		}
	}
}
