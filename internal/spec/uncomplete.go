package spec

import (
	"reflect"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/oci"
)

// Uncomplete takes out what Complete has filled in: of what is left, and the same image, Complete
// makes the same again. The names of anonymous volumes go too.
func (c *Container) Uncomplete(img oci.Config) {
	var systemds []Mount
	if c.IsSystemd() {
		systemds = c.withoutSystemd(img)
	}
	c.withoutCheck(img)
	p := &c.Process
	p.withoutCommand(img)
	p.withoutEnv(img.Env)
	if p.Cwd == completeCwd("", img) {
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
	of := exposed(img)
	c.Networking.Expose = slices.DeleteFunc(c.Networking.Expose, func(s Service) bool { return slices.Contains(of, s) })
	for i := range c.Mounts {
		if m := &c.Mounts[i]; m.Anonymous {
			m.Source, m.Anonymous = "", false
		}
	}
	c.Mounts = slices.DeleteFunc(c.Mounts, func(m Mount) bool {
		_, ok := img.Volumes[m.Target]
		// Where systemd has memory, the image's volumes do not come: this one is the user's.
		ok = ok && !slices.ContainsFunc(systemds, func(s Mount) bool { return s.Target == m.Target })
		return ok && reflect.DeepEqual(m, Mount{Type: Volume, Target: m.Target})
	})
}

// withoutCommand leaves what the user said after the image's name.
func (p *Process) withoutCommand(img oci.Config) {
	entry, args := p.Split()
	same := slices.Equal(entry, img.Entrypoint)
	switch p.EntryArgs = 0; {
	case same && slices.Equal(args, img.Cmd):
		p.Args = nil
	case same && len(args) > 0:
		p.Args = args
	case len(entry) == 0:
		p.Entrypoint = []string{}
	default: // a flag has room for one word
		p.Entrypoint, p.Args = p.Args[:1], p.Args[1:]
	}
}

// withoutEnv leaves the variables that are not the image's, and the names of those of the image
// that were taken away.
func (p *Process) withoutEnv(of []string) {
	env := slices.DeleteFunc(slices.Clone(p.Env), func(v string) bool { return slices.Contains(of, v) })
	for _, v := range of {
		name, _, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(p.Env, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			env = append(env, name)
		}
	}
	p.Env = env
}

// withoutCheck takes out of the health check what the image says of it.
func (c *Container) withoutCheck(img oci.Config) {
	h, none := c.Life.Health, (*Health)(nil)
	if h == nil || h.Off {
		return
	}
	switch of := none.over(img); {
	case of == nil:
	case reflect.DeepEqual(h, of):
		c.Life.Health = nil
	case slices.Equal(h.Test, of.Test):
		h.Test = nil
	}
}

// withoutSystemd takes out what a container has for being systemd's, and returns the mounts that
// it would have.
func (c *Container) withoutSystemd(img oci.Config) []Mount {
	usual := Container{Life: Life{Systemd: SystemdAlways, StopSignal: img.StopSignal}}
	usual.completeSystemd()
	c.Life.NoInit = false
	if c.Life.StopSignal == usual.Life.StopSignal {
		c.Life.StopSignal = img.StopSignal
	}
	c.Mounts = slices.DeleteFunc(c.Mounts, func(m Mount) bool {
		return slices.ContainsFunc(usual.Mounts, func(u Mount) bool { return reflect.DeepEqual(m, u) })
	})
	return usual.Mounts
}
