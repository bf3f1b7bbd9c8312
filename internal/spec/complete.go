package spec

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/oci"
)

// Complete fills in what the user left to the image: the command line, environment,
// working directory, user, stop signal, labels, volumes, ports and health check. What the user
// said stays.
//
// A user's entrypoint replaces both the image's entrypoint and its command, as Docker does.
func (c *Container) Complete(img oci.Config) {
	p := &c.Process
	switch {
	case p.Entrypoint != nil:
	case len(p.Args) > 0:
		p.Entrypoint = img.Entrypoint
	default:
		p.Entrypoint, p.Args = img.Entrypoint, img.Cmd
	}
	p.Entrypoint, p.EntryArgs, p.Args = nil, len(p.Entrypoint), slices.Concat(p.Entrypoint, p.Args)
	p.Env = MergeEnv(img.Env, p.Env)
	p.Cwd = completeCwd(p.Cwd, img)
	p.User = first(p.User, img.User)
	c.Life.StopSignal = first(c.Life.StopSignal, img.StopSignal)
	for k, v := range img.Labels {
		if _, ok := c.Labels[k]; !ok {
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			c.Labels[k] = v
		}
	}
	c.completeSystemd()
	c.addVolumes(img.Volumes)
	c.Networking.Expose = SortServices(append(c.Networking.Expose, exposed(img)...))
	c.Life.Health = c.Life.Health.over(img)
}

func completeCwd(cwd string, img oci.Config) string {
	if cwd = first(cwd, img.WorkingDir, "/"); cwd[0] != '/' {
		return "/" + cwd
	}
	return cwd
}

// over puts what the user said of the health check over what the image says. Nothing is left
// if neither has a command for it, or the image says NONE and the user no command.
func (h *Health) over(img oci.Config) *Health {
	if h != nil && h.Off {
		return h
	}
	var out Health
	if h != nil {
		out = *h
	}
	if i := img.Healthcheck; i != nil {
		if len(out.Test) == 0 {
			out.Test = i.Test
		}
		out.Interval = cmp.Or(out.Interval, i.Interval)
		out.Timeout = cmp.Or(out.Timeout, i.Timeout)
		out.StartPeriod = cmp.Or(out.StartPeriod, i.StartPeriod)
		out.StartInterval = cmp.Or(out.StartInterval, i.StartInterval)
		out.Retries = cmp.Or(out.Retries, i.Retries)
	}
	if len(out.Test) < 2 || out.Test[0] != "CMD" && out.Test[0] != "CMD-SHELL" {
		return nil
	}
	if out.Test[0] == "CMD-SHELL" && len(img.Shell) > 0 { // the image's own shell reads the line
		out.Test = slices.Concat([]string{"CMD"}, img.Shell, out.Test[1:])
	}
	return &out
}

// addVolumes gives each VOLUME of the image an anonymous volume, unless the user mounts
// something there.
func (c *Container) addVolumes(volumes map[string]struct{}) {
	targets := make([]string, 0, len(volumes))
	for t := range volumes {
		if strings.HasPrefix(t, "/") && t != "/" {
			targets = append(targets, t)
		}
	}
	slices.Sort(targets)
	for _, t := range targets {
		taken := slices.ContainsFunc(c.Mounts, func(m Mount) bool {
			return strings.TrimRight(m.Target, "/") == strings.TrimRight(t, "/")
		})
		if !taken {
			c.Mounts = append(c.Mounts, Mount{Type: Volume, Target: t})
		}
	}
}

// exposed is the ports that an image names (EXPOSE). One that cannot be read counts for nothing,
// as in Docker.
func exposed(img oci.Config) []Service {
	var out []Service
	for text := range img.ExposedPorts {
		number, protocol, _ := strings.Cut(text, "/")
		s := Service{Protocol: Protocol(first(strings.ToLower(protocol), string(TCP)))}
		n, err := strconv.ParseUint(number, 10, 16)
		if s.Port = uint16(n); err == nil && n != 0 && (s.Protocol == TCP || s.Protocol == UDP || s.Protocol == SCTP) {
			out = append(out, s)
		}
	}
	return out
}

// MergeEnv puts over's variables over base's, each name once, in the order of their first
// appearance. A name without a value takes the variable away.
func MergeEnv(base, over []string) []string {
	var out []string
	at := map[string]int{}
	for _, e := range slices.Concat(base, over) {
		name, _, _ := strings.Cut(e, "=")
		if i, ok := at[name]; ok {
			out[i] = e
			continue
		}
		at[name] = len(out)
		out = append(out, e)
	}
	return slices.DeleteFunc(out, func(e string) bool { return !strings.Contains(e, "=") })
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
