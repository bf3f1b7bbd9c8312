package network

import (
	"context"
	"os"

	"github.com/cortenhq/corten/internal/attendant"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Attendant is corten-net at work.
type Attendant = attendant.Attendant

// The modes in which a start begins with it.
const (
	Tend = attendant.Tend // connect a container, and disconnect it when we ask for it or end
	Up   = attendant.Up   // connect a container
)

// Begin starts corten-net for a start; a box is of ports that it answers at.
func Begin(d Dirs, m attendant.Mode, id spec.ContainerID, box ...*os.File) (*Attendant, error) {
	return attendant.Begin(d.Root, d.Run, m, id, box...)
}

// Down disconnects a container that nobody looks after; the caller has its lock. If it has nothing here no process is started.
func Down(ctx context.Context, d Dirs, id spec.ContainerID) error {
	if has, err := claimed(d, id); err != nil || !has {
		return errs.Wrap("disconnect container", id.Short(), err)
	}
	return ask(ctx, d, attendant.Down, id)
}

// Restore makes the host's rules anew, of all documents.
func Restore(ctx context.Context, d Dirs) error { return ask(ctx, d, attendant.Restore, "") }

// Prune is Restore, and takes away the bridges that no container is on.
func Prune(ctx context.Context, d Dirs) error { return ask(ctx, d, attendant.Prune, "") }

// Unplug has plugins try again what they could not undo (cni.Leftovers).
func Unplug(ctx context.Context, d Dirs) error { return ask(ctx, d, attendant.Unplug, "") }

// Change makes true what the document of a running container says now, in the network namespace of
// the process pid, and gives back what it no longer names.
func Change(ctx context.Context, d Dirs, id spec.ContainerID, pid int) error {
	a, err := Begin(d, attendant.Change, id)
	if err != nil {
		return err
	}
	if err := a.Tell(pid); err != nil {
		a.Close()
		return err
	}
	if err := a.Wait(ctx); err != nil {
		return err
	}
	return errs.Wrap("change networks of container", id.Short(), settle(d, id))
}

func ask(ctx context.Context, d Dirs, m attendant.Mode, id spec.ContainerID) error {
	a, err := Begin(d, m, id)
	if err != nil {
		return err
	}
	return a.Wait(ctx)
}
