package keeper

import (
	"time"

	"golang.org/x/sys/unix"
)

// restMax bounds one wait, in ns: the time of day may jump meanwhile.
const restMax = 2 * 60 * second

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
	if err == nil {
		_, err = ReadRest(folder)
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
	for {
		if unix.Access(folder+"/"+StopName, unix.F_OK) == nil {
			return o.hand("end")
		}
		until, err := ReadRest(folder)
		if err != nil {
			return err
		}
		left := until - time.Now().UnixNano()
		if left <= 0 {
			return o.hand("start")
		}
		if pause(signals, min(left, restMax)) {
			anew(o.program(), args)
		}
	}
}

// pause waits, but not longer than until a signal comes, and says whether that was SIGHUP.
func pause(signals int, ns int64) (anew bool) {
	fds := []unix.PollFd{{Fd: int32(signals), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds, wait(ns, 0))
	for {
		switch readSignal(signals) {
		case 0:
			return anew
		case unix.SIGHUP:
			anew = true
		}
	}
}
