package life

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/errs"
)

type hook = specs.Hook

func words(list []hook) (out []string) {
	for _, h := range list {
		out = append(out, h.Path)
	}
	return out
}

// early is the hooks that prepare a container's surroundings.
func early(h specs.Hooks) []hook {
	//lint:ignore SA1019 it is deprecated, and container engines use it
	return append(slices.Clone(h.Prestart), h.CreateRuntime...)
}

// prepareHooks runs those that prepare the container's surroundings, or with inside those that prepare
// what it sees; the first that fails ends its creation.
func (c *Container) prepareHooks(ctx context.Context, pid int, inside bool) error {
	s := *c.State
	s.PID = pid
	if inside {
		return hooksInside(ctx, s.Hooks.CreateContainer, &s, record.Creating, beingMade)
	}
	for _, h := range early(s.Hooks) {
		if err := runHook(ctx, h, &s, record.Creating); err != nil {
			return err
		}
	}
	return nil
}

// poststart runs those that are to be run when the command is executed.
func poststart(ctx context.Context, s *record.State) error {
	for _, h := range s.Hooks.Poststart {
		if err := runHook(ctx, h, s, record.Running); err != nil {
			return err
		}
	}
	return nil
}

// lastHooks runs those that are to be run when a container was removed. Their failure changes
// nothing any more.
func lastHooks(ctx context.Context, s *record.State, warn func(string)) {
	for _, h := range s.Hooks.Poststop {
		if err := runHook(ctx, h, s, record.Stopped); err != nil {
			warn(err.Error())
		}
	}
}

// stateOf is what others are told of a container (runtime.md, "State").
func stateOf(s *record.State, status record.Status, pid int) specs.State {
	return specs.State{Version: s.Version, ID: s.ID, Status: specs.ContainerState(status), Pid: pid, Bundle: s.Bundle, Annotations: s.Annotations}
}

// runHook runs a program of the host with the container's state on its stdin (config.md,
// "POSIX-platform Hooks").
func runHook(ctx context.Context, h hook, s *record.State, status record.Status) error {
	ctx, cancel := within(ctx, h)
	defer cancel()
	state, err := tell(s, status, s.PID)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, h.Path)
	cmd.Stdin, cmd.Stderr, cmd.Dir = bytes.NewReader(state), &said, s.Bundle
	cmd.WaitDelay = leftTime
	if cmd.Env = h.Env; h.Env == nil {
		cmd.Env = []string{}
	}
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	return failed(ctx, h, cmd.Run(), said.String())
}

// leftTime is how long what a hook leaves in the background may keep its stderr.
const leftTime = time.Second

// within ends with the timeout of a hook.
func within(ctx context.Context, h hook) (context.Context, context.CancelFunc) {
	if h.Timeout == nil {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
}

// tell is the state of a container, as hooks read it.
func tell(s *record.State, status record.Status, pid int) ([]byte, error) {
	state, err := json.Marshal(stateOf(s, status, pid))
	if err != nil {
		return nil, errs.New(errs.Internal, "tell the state of", s.ID, err)
	}
	return state, nil
}

// failed says how a hook failed, and what it said; nil if it did not.
func failed(ctx context.Context, h hook, err error, said string) error {
	if ctx.Err() != nil {
		return errs.New(errs.Canceled, "run hook", h.Path, context.Cause(ctx)).WithHint("its timeout in config.json has passed")
	}
	if err == nil {
		return nil
	}
	e := errs.New(errs.Other, "run hook", h.Path, err)
	if text := strings.TrimSpace(said); text != "" {
		e.Hint = "it said: " + text
	}
	return e
}
