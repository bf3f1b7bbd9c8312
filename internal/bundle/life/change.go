package life

import (
	"context"
	"encoding/json"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle"
	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Find finds a container and what it does.
func Find(root, id string) (record.Place, *record.State, record.Status, error) {
	place, err := record.Of(root, id)
	if err != nil {
		return place, nil, "", err
	}
	s, err := place.Load()
	if err != nil {
		return place, nil, "", err
	}
	status, err := place.Status(s)
	return place, s, status, err
}

// described adds to a state what the container was created from, with what has changed since.
func described(place record.Place, s *record.State) error {
	if s.Container != nil {
		return nil
	}
	text, err := place.Description()
	if err != nil {
		return err
	}
	b, err := bundle.Parse(s.Bundle, text, held())
	if err != nil {
		return errs.Wrap("read description of", place.ID, err)
	}
	c := b.Spec
	if err := inNest(&c.Namespaces.User); err != nil {
		return err
	}
	c.ID, c.Name, c.Created, c.Security.NoKeyring = spec.ContainerID(s.ID), s.ID, s.Created, s.Besides.Keyring
	if s.Besides.Mount != 0 {
		c.Namespaces.Mount = spec.Namespace{Mode: spec.Host}
	}
	if s.Besides.Limits != nil {
		c.Resources = spec.Resources{}
		if err := json.Unmarshal(s.Besides.Limits, &c.Resources); err != nil {
			return errs.New(errs.Corrupt, "read limits of", place.ID, err)
		}
	}
	s.Container = c
	return nil
}

// with has a container that nobody else changes meanwhile.
func with(root, id string, f func(record.Place, *record.State, record.Status) error) error {
	place, err := record.Of(root, id)
	if err != nil {
		return err
	}
	if err := place.There(); err != nil { // a lock of one that is not there would stay
		return err
	}
	unlock, err := place.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	place, s, status, err := Find(root, id)
	if errs.Is(err, errs.NotFound) { // it was deleted meanwhile, and what we have locked is new
		_ = place.Remove()
	}
	if err != nil {
		return err
	}
	return f(place, s, status)
}

// not is that a container does something else than a verb needs.
func not(what, id string, status record.Status, hint string) error {
	return errs.Newf(errs.Invalid, what+" container", id, "it is "+string(status)).WithHint(hint)
}

// Start starts a created container.
func Start(ctx context.Context, root, id string, warn func(string)) error {
	return with(root, id, func(place record.Place, s *record.State, status record.Status) error {
		if status != record.Created {
			return not("start", id, status, "only one that is created can be started, once")
		}
		err := startHooks(ctx, place, s)
		if err == nil {
			if err := place.Start(); err != nil {
				return err
			}
			err = poststart(ctx, s)
		}
		if err != nil { // a hook failed, and so the container is at its end (runtime.md, "Lifecycle")
			if e := remove(ctx, place, s, warn); e != nil {
				warn(e.Error())
			}
		}
		return err
	})
}

// Kill sends a signal to the first process, or to all. One that waits to be started would keep a
// signal until then: what would end a program ends it at once.
func Kill(ctx context.Context, root, id string, sig unix.Signal, all bool) error {
	return with(root, id, func(place record.Place, s *record.State, status record.Status) error {
		if all && sig == unix.SIGKILL {
			return s.Groups.Kill(ctx)
		}
		if all {
			pids, err := s.Groups.Procs()
			for _, pid := range pids {
				_ = unix.Kill(pid, sig) // it may be gone already
			}
			return err
		}
		if status != record.Created && status != record.Running && status != record.Paused {
			return errs.Newf(errs.Invalid, "signal container", id, "container not running: it is "+string(status)).
				WithHint("corten-oci delete removes what is left of it")
		}
		if place.Waits() && ends(sig) {
			sig = unix.SIGKILL
		}
		f, err := s.Open()
		if err != nil {
			return errs.Wrap("signal container", id, err)
		}
		defer f.Close()
		if err := unix.PidfdSendSignal(int(f.Fd()), sig, nil, 0); err != nil {
			return errs.Wrap("signal container", id, err)
		}
		if status == record.Paused && sig == unix.SIGKILL { // a frozen process of cgroup v1 dies when it is thawed
			return s.Groups.Thaw()
		}
		return nil
	})
}

// ends reports whether a signal ends a program that does nothing about it, signal(7).
func ends(sig unix.Signal) bool {
	switch sig {
	case 0, unix.SIGCHLD, unix.SIGURG, unix.SIGWINCH, unix.SIGCONT, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return false
	}
	return true
}

// Delete removes a container that has ended, or was never started; with force any. Of one that is not
// there force makes no error.
func Delete(ctx context.Context, root, id string, force bool, warn func(string)) error {
	err := with(root, id, func(place record.Place, s *record.State, status record.Status) error {
		if !force && (status == record.Running || status == record.Paused) {
			return errs.Newf(errs.Invalid, "delete container", id, "cannot delete container that is not stopped: it is "+string(status)).
				WithHint("kill it first, or use --force")
		}
		return remove(ctx, place, s, warn)
	})
	if force && errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// remove ends what is left of a container and forgets it. One in the host's pid namespace may have left
// processes; those of its groups are its own.
func remove(ctx context.Context, place record.Place, s *record.State, warn func(string)) error {
	if f, err := s.Open(); err == nil {
		_ = unix.PidfdSendSignal(int(f.Fd()), unix.SIGKILL, nil, 0)
		_ = f.Close()
	}
	if err := destroy(ctx, s); err != nil {
		return err
	}
	if s.PID == 0 {
		sweepGroups(place, s)
	}
	if err := place.Remove(); err != nil {
		return err
	}
	lastHooks(ctx, s, warn)
	return nil
}

// Pause freezes a container, or lets it go on.
func Pause(ctx context.Context, root, id string, frozen bool) error {
	return with(root, id, func(_ record.Place, s *record.State, status record.Status) error {
		switch {
		case frozen && (status == record.Running || status == record.Created):
			return s.Groups.Freeze(ctx)
		case !frozen && status == record.Paused:
			return s.Groups.Thaw()
		case frozen:
			return not("pause", id, status, "only one that runs can be paused")
		}
		return not("resume", id, status, "only one that is paused can be resumed")
	})
}

// Procs lists the processes of a container.
func Procs(root, id string) ([]int, error) {
	_, s, _, err := Find(root, id)
	if err != nil {
		return nil, err
	}
	return s.Groups.Procs()
}
