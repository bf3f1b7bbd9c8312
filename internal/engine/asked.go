package engine

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/spec"
)

// Asked is what a user asked for who got this container: its description without what the
// image and Corten have filled in since. Making a container of it gives an equal one, of
// whatever the image is by then. The other one is the container as it is.
func (e *Engine) Asked(ctx context.Context, ref string) (asked, is *spec.Container, err error) {
	s, err := e.find(ref)
	if err != nil {
		return nil, nil, err
	}
	c, err := container.ReadSpec(e.dirs(), s.Spec.ID)
	if err != nil {
		return nil, nil, err
	}
	byID := spec.Container{Image: c.Image}
	if !byID.Image.Platform {
		byID.Image.Name = byID.Image.Config
	}
	b, err := e.base(ctx, RunRequest{Spec: &byID, Pull: PullNever}, true)
	if err != nil {
		return nil, nil, err
	}
	if !c.Security.Privileged {
		own := len(cgroup.DefaultDevices()) + len(c.Devices)
		c.Resources.Devices = c.Resources.Devices[min(own, len(c.Resources.Devices)):]
	}
	if c.Namespaces.Hostname == c.ID.Short() {
		c.Namespaces.Hostname = ""
	}
	if u := &c.Namespaces.User; u.Mode != spec.UserMap {
		u.UIDMap, u.GIDMap = nil, nil
	}
	withoutImage(c, b.config)
	if s.Spec.IsSystemd() {
		withoutSystemd(c, b.config)
	}
	return c, s.Spec, nil
}

// withoutImage takes out what Complete has taken from the image.
func withoutImage(c *spec.Container, img oci.Config) {
	p := &c.Process
	usual := slices.Concat(img.Entrypoint, img.Cmd)
	switch n := len(img.Entrypoint); {
	case slices.Equal(p.Args, usual):
		p.Args = nil
	case n > 0 && len(p.Args) > n && slices.Equal(p.Args[:n], img.Entrypoint):
		p.Args = p.Args[n:]
	case n > 0 && len(p.Args) > 0:
		p.Entrypoint, p.Args = p.Args[:1], p.Args[1:]
	}
	env := slices.DeleteFunc(slices.Clone(p.Env), func(v string) bool { return slices.Contains(img.Env, v) })
	for _, v := range img.Env {
		name, _, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(p.Env, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			env = append(env, name)
		}
	}
	p.Env = env
	var blank spec.Container
	blank.Complete(oci.Config{WorkingDir: img.WorkingDir})
	if p.Cwd == blank.Process.Cwd {
		p.Cwd = ""
	}
	if p.User == img.User {
		p.User = ""
	}
	if c.Life.StopSignal == img.StopSignal {
		c.Life.StopSignal = ""
	}
	for k, v := range img.Labels {
		if own, ok := c.Labels[k]; ok && own == v {
			delete(c.Labels, k)
		}
	}
	for i := range c.Mounts {
		if m := &c.Mounts[i]; m.Anonymous {
			m.Source, m.Anonymous = "", false
		}
	}
	c.Mounts = slices.DeleteFunc(c.Mounts, func(m spec.Mount) bool {
		_, ok := img.Volumes[m.Target]
		return ok && m == spec.Mount{Type: spec.Volume, Target: m.Target}
	})
	withoutCheck(c, img)
}

// withoutCheck takes out of the health check what the image says of it.
func withoutCheck(c *spec.Container, img oci.Config) {
	h := c.Life.Health
	if h == nil || h.Off || img.Healthcheck == nil {
		return
	}
	usual := spec.Container{}
	usual.Complete(oci.Config{Healthcheck: img.Healthcheck, Shell: img.Shell})
	of := usual.Life.Health
	switch {
	case of == nil:
	case reflect.DeepEqual(h, of):
		c.Life.Health = nil
	case slices.Equal(h.Test, of.Test):
		h.Test = nil
	}
}

// withoutSystemd takes out what a container has for being systemd's.
func withoutSystemd(c *spec.Container, img oci.Config) {
	usual := spec.Container{Life: spec.Life{Systemd: spec.SystemdAlways}}
	usual.Complete(oci.Config{StopSignal: img.StopSignal})
	c.Life.NoInit = false
	if c.Life.StopSignal == usual.Life.StopSignal {
		c.Life.StopSignal = ""
	}
	c.Mounts = slices.DeleteFunc(c.Mounts, func(m spec.Mount) bool {
		return slices.ContainsFunc(usual.Mounts, func(u spec.Mount) bool { return reflect.DeepEqual(m, u) })
	})
}
