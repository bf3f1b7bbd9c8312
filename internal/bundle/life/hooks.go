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

// prepareHooks runs those that prepare the container's surroundings; the first that fails ends its creation.
func (c *Container) prepareHooks(ctx context.Context, pid int) error {
	s := *c.State
	s.PID = pid
	for _, h := range early(s.Hooks) {
		if err := runHook(ctx, h, &s, record.Creating); err != nil {
			return err
		}
	}
	return nil
}

// runHooks runs those whose failure changes nothing any more.
func runHooks(ctx context.Context, s *record.State, status record.Status, list []hook, warn func(string)) {
	for _, h := range list {
		if err := runHook(ctx, h, s, status); err != nil {
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
	if h.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	state, err := json.Marshal(stateOf(s, status, s.PID))
	if err != nil {
		return errs.New(errs.Internal, "run hook", h.Path, err)
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, h.Path)
	cmd.Stdin, cmd.Stderr, cmd.Dir = bytes.NewReader(state), &said, s.Bundle
	cmd.WaitDelay = time.Second // what it leaves in the background may keep its stderr
	if cmd.Env = h.Env; h.Env == nil {
		cmd.Env = []string{}
	}
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	err = cmd.Run()
	if ctx.Err() != nil {
		return errs.New(errs.Canceled, "run hook", h.Path, context.Cause(ctx)).WithHint("its timeout in config.json has passed")
	}
	if err == nil {
		return nil
	}
	e := errs.New(errs.Other, "run hook", h.Path, err)
	if text := strings.TrimSpace(said.String()); text != "" {
		e.Hint = "it said: " + text
	}
	return e
}
