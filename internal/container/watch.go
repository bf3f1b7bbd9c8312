package container

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/cortenhq/corten/internal/disk/watch"
	"github.com/cortenhq/corten/internal/spec"
)

// Await looks at a container each time something about it changes, until enough says so. A
// container that is gone has no state; enough is then asked with nil, and Await returns.
func Await(ctx context.Context, dirs Dirs, id spec.ContainerID, enough func(*State) bool) error {
	look := func() bool {
		st, err := ReadState(dirs, id)
		if err != nil {
			if _, serr := os.Stat(Dir(dirs, id)); Gone(serr) {
				enough(nil)
				return true
			}
			st = State{Status: Created} // about to be written
		}
		return enough(&st)
	}
	if look() {
		return nil
	}
	w, err := watch.New()
	if err != nil { // other programs have all watchers: look now and then
		return poll(ctx, look)
	}
	defer w.Close()
	if err := w.Add(Dir(dirs, id)); err != nil {
		return err
	}
	for !look() {
		if err := w.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// AwaitUnlocked waits until nobody looks after a container any more. That is a matter of
// milliseconds once its state says that it has ended.
func AwaitUnlocked(ctx context.Context, dirs Dirs, id spec.ContainerID) error {
	path := filepath.Join(dirs.Run, "active", string(id))
	return poll(ctx, func() bool {
		_, err := os.Stat(path)
		return Gone(err)
	})
}

// AwaitIdle waits until nobody looks after a container any more, or until it runs: somebody was
// busy with its end or with its start.
func AwaitIdle(ctx context.Context, dirs Dirs, id spec.ContainerID) (running bool, err error) {
	path := filepath.Join(dirs.Run, "active", string(id))
	err = poll(ctx, func() bool {
		_, lerr := os.Stat(path)
		st, serr := ReadState(dirs, id)
		running = lerr == nil && serr == nil && st.Alive()
		return running || Gone(lerr)
	})
	return running, err
}

func poll(ctx context.Context, look func() bool) error {
	for pause := time.Millisecond; !look(); pause = min(2*pause, 50*time.Millisecond) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
	return nil
}
