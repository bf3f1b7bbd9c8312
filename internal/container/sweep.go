package container

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// What is known of the end of a container that nobody saw.
const (
	killed   = "the command that ran it was killed, and the container with it"
	rebooted = "the machine stopped or was started anew while it ran, or its run folder was cleared"
)

// Sweep undoes what dead owners left: processes, cgroups, id ranges, and the containers
// themselves if they were to be removed. What it meets and cannot undo is returned; it
// stays for the next sweep.
func Sweep(dirs Dirs, undo Undo) error {
	all := []error{outlive(dirs, undo)}
	folder := filepath.Join(dirs.Run, "active")
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap("look for dead containers in", folder, err)
	}
	for _, e := range entries {
		l, r := orphan(filepath.Join(folder, e.Name()))
		if l == nil {
			continue
		}
		id := spec.ContainerID(e.Name())
		if r.Kept && begun(dirs, id) {
			all = append(all, l.pass(undo.Adopt, id))
			continue
		}
		all = append(all, l.bury(dirs, id, r, undo, killed))
	}
	return errors.Join(all...)
}

// outlive finds what the machine's end left, once in each boot: run/active, which a reboot
// forgets, does not speak of it. That all was found is said in two places: the boot in
// containers.boot, and an empty file below Run. If that alone is missing somebody has cleared
// Run, maybe while containers ran: those go on, and only the dead are looked after.
func outlive(dirs Dirs, undo Undo) error {
	now, err := disk.Read("/proc/sys/kernel/random/boot_id") // random(4)
	if err != nil {
		return nil // without /proc: wait for a better day
	}
	marker, begun := filepath.Join(dirs.Root, "containers.boot"), filepath.Join(dirs.Run, "begun")
	_, there := os.Lstat(begun)
	b, err := disk.Read(marker)
	same := err == nil && string(b) == string(now)
	if same && there == nil {
		return nil
	}
	ids, err := IDs(dirs)
	if err != nil {
		return err
	}
	if ids == nil {
		return nil // not even a folder for them
	}
	var all []error
	strays := 0
	for _, id := range ids {
		if same {
			switch fate(dirs, id) {
			case stray:
				strays++
				continue
			case settled:
				continue
			}
		}
		all = append(all, raise(dirs, id, undo))
	}
	if !same {
		all = append(all, freeNames(dirs))
	}
	if err := errors.Join(all...); err != nil || strays > 0 {
		return err
	}
	if err := os.MkdirAll(dirs.Run, 0o700); err != nil {
		return err
	}
	return errors.Join(disk.WriteFile(begun, nil, 0o600, disk.Volatile), disk.WriteFile(marker, now, 0o600, disk.Volatile))
}

// raise buries a container of another boot. Who lives, and began in this one, has the
// lock; who has ended meanwhile is as bury wants it.
func raise(dirs Dirs, id spec.ContainerID, undo Undo) error {
	r := Record{Remove: torn(dirs, id, "spec.json")}
	if c, err := ReadSpec(dirs, id); err == nil {
		r = recordOf(c, nil)
	}
	if st, err := ReadState(dirs, id); err == nil { // they may be there, if only Run was cleared
		r.Groups = st.Groups
	}
	l, err := lock(dirs, id, r)
	if err != nil {
		return nil
	}
	return l.bury(dirs, id, r, undo, rebooted)
}

// freeNames frees the names of containers that had not written down their own.
func freeNames(dirs Dirs) error {
	names, err := os.ReadDir(filepath.Join(dirs.Root, "names"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap("look for names of another boot in", dirs.Root, err)
	}
	var all []error
	for _, e := range names {
		if err := freeName(dirs, e.Name()); !errs.Is(err, errs.Exists) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// What may have become of a container of this boot that has no record.
const (
	settled = iota // nobody has to do anything, or is at it
	stray          // it runs, or may
	dead           // it ran
)

func fate(dirs Dirs, id spec.ContainerID) int {
	st, err := ReadState(dirs, id)
	switch {
	case err != nil || !st.Alive():
		return settled
	case st.Status == Running && (st.StartTicks == 0 || Ticks(st.PID) == st.StartTicks && !zombie(st.PID)):
		return stray
	}
	return dead
}

// zombie reports whether a process has ended, and only nobody has asked how (proc_pid_stat(5),
// field 3).
func zombie(pid int) bool {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	i := bytes.LastIndexByte(b, ')')
	return i >= 0 && bytes.HasPrefix(b[i:], []byte(") Z"))
}

// torn reports whether a file of a container is there without its content: the power failed before
// it was on the disk. Of spec.json that means that the container was one to be removed, for those of others are synced.
func torn(dirs Dirs, id spec.ContainerID, name string) bool {
	b, err := os.ReadFile(filepath.Join(Dir(dirs, id), name))
	return err == nil && len(bytes.Trim(b, "\x00")) == 0
}

// begun reports whether the start of a kept container was acknowledged, or might have been.
func begun(dirs Dirs, id spec.ContainerID) bool {
	_, err := os.Stat(filepath.Join(KeepDir(dirs, id), "orders"))
	return err == nil
}

// pass has somebody else take the lock over. It is ours until that one has it.
func (l *Lock) pass(adopt func(spec.ContainerID, *os.File) error, id spec.ContainerID) error {
	defer l.file.Close()
	return errs.Wrap("adopt container", id.Short(), adopt(id, l.file))
}

// bury undoes what the lock's dead owner held, and releases the lock if all of it is
// undone.
func (l *Lock) bury(dirs Dirs, id spec.ContainerID, r Record, undo Undo, why string) error {
	if err := undoAll(dirs, id, r, undo, why); err != nil {
		_ = l.file.Close() // the record stays
		return errs.Wrap("clean up container", id.Short(), err)
	}
	return l.release()
}

// goes reports whether a container is to be removed with its record.
func (r Record) goes(dirs Dirs, id spec.ContainerID) bool {
	st, err := ReadState(dirs, id)
	switch {
	case err == nil && st.Status == Created: // --rm is about the end, and it waits for its start
		return r.Fresh
	case errors.Is(err, fs.ErrNotExist):
		return r.Fresh || r.Remove
	}
	return r.Remove
}

func undoAll(dirs Dirs, id spec.ContainerID, r Record, undo Undo, why string) error {
	if err := undo.KillGroups(r.Groups); err != nil {
		return err
	}
	if r.Connected {
		if err := undo.Disconnect(id); err != nil {
			return err
		}
	}
	if err := releaseAll(dirs, id); err != nil {
		return err
	}
	if err := ForgetRun(dirs, id); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(Dir(dirs, id), "spec.json"))
	if r.goes(dirs, id) || err != nil { // without a spec it died before it was complete
		if err := undo.RemoveVolumes(id, r.Volumes); err != nil {
			return err
		}
		limited := true // maybe: who died young, or lost its spec to a power cut, cannot tell
		if c, err := ReadSpec(dirs, id); err == nil {
			r.Name, limited = c.Name, c.Root.Size > 0 // it may have been renamed
		}
		return remove(dirs, id, r.Name, limited || r.Limited)
	}
	if err := undo.RemoveVolumes(id, nil); err != nil {
		return err
	}
	st, err := ReadState(dirs, id)
	// What the power cut before it was on the disk is a state other than exited, which is synced: it may have run,
	// and somebody may know.
	lost := why == rebooted && (torn(dirs, id, "state.json") || errors.Is(err, fs.ErrNotExist))
	if !lost && (err != nil || !st.Alive()) {
		return nil
	}
	st.Status, st.PID, st.StartTicks, st.Groups, st.ExitCode = Exited, 0, 0, nil, 137
	st.Message = why
	x := &Container{Spec: &spec.Container{ID: id, Name: r.Name}, dirs: dirs}
	return x.SetState(st)
}
