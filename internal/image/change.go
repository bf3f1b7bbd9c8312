package image

import (
	"encoding/json"
	"errors"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Change applies instructions of a Dockerfile that concern the configuration alone, such
// as "ENV A=b" or `CMD ["sh"]`, one after the other.
func Change(c oci.Config, instructions []string) (oci.Config, error) {
	c.Env = slices.Clone(c.Env)
	c.Labels, c.Volumes, c.ExposedPorts = maps.Clone(c.Labels), maps.Clone(c.Volumes), maps.Clone(c.ExposedPorts)
	for _, text := range instructions {
		word, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
		if err := change(&c, strings.ToUpper(word), strings.TrimSpace(rest)); err != nil {
			var e *errs.Error
			if errors.As(err, &e) {
				return c, err
			}
			return c, errs.New(errs.Invalid, "apply change", strconv.Quote(text), err)
		}
	}
	return c, nil
}

func change(c *oci.Config, word, rest string) error {
	if rest == "" {
		return errors.New("it says nothing after " + strconv.Quote(word))
	}
	switch word {
	case "CMD":
		c.Cmd = command(rest)
	case "ENTRYPOINT":
		c.Entrypoint, c.Cmd = command(rest), nil // as docker build does
	case "ENV":
		return pairs(rest, func(k, v string) { c.Env = setEnv(c.Env, k, v) })
	case "LABEL":
		c.Labels = made(c.Labels)
		return pairs(rest, func(k, v string) { c.Labels[k] = v })
	case "EXPOSE":
		return expose(c, rest)
	case "VOLUME":
		return volumes(c, rest)
	case "USER":
		c.User = unquoted(rest)
	case "WORKDIR":
		dir := unquoted(rest)
		if !path.IsAbs(dir) {
			dir = path.Join("/", c.WorkingDir, dir)
		}
		c.WorkingDir = path.Clean(dir)
	case "STOPSIGNAL":
		c.StopSignal = unquoted(rest)
	case "ONBUILD":
		c.OnBuild = append(slices.Clone(c.OnBuild), rest)
	case "SHELL":
		return json.Unmarshal([]byte(rest), &c.Shell)
	case "HEALTHCHECK":
		return healthcheck(c, rest)
	default:
		return errs.Newf(errs.Invalid, "apply change", strconv.Quote(word), "an unknown instruction").
			WithHint("there are CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR")
	}
	return nil
}

// command reads a JSON list of words, or else a line for the shell.
func command(s string) []string {
	var list []string
	if s[0] == '[' && json.Unmarshal([]byte(s), &list) == nil {
		return list
	}
	return []string{"/bin/sh", "-c", s}
}

// pairs reads "A=b C='d e'", or the old form "A the rest".
func pairs(s string, set func(k, v string)) error {
	first, rest, _ := strings.Cut(s, " ")
	if !strings.Contains(first, "=") {
		if rest = strings.TrimSpace(rest); rest == "" {
			return errors.New("a value is missing: write NAME=VALUE")
		}
		set(unquoted(first), rest)
		return nil
	}
	words, err := split(s)
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return errors.New("write NAME=VALUE, with quotes around spaces")
		}
		set(k, v)
	}
	return err
}

// split splits at spaces that are neither quoted nor escaped, and takes quotes away.
func split(s string) ([]string, error) {
	var (
		list  []string
		b     strings.Builder
		quote byte
		in    bool
	)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
			in = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, in = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if in {
				list = append(list, b.String())
			}
			b.Reset()
			in = false
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if in {
		list = append(list, b.String())
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	return list, nil
}

func unquoted(s string) string {
	if words, err := split(s); err == nil {
		return strings.Join(words, " ")
	}
	return s
}

func setEnv(env []string, k, v string) []string {
	for i, e := range env {
		if name, _, _ := strings.Cut(e, "="); name == k {
			env[i] = k + "=" + v
			return env
		}
	}
	return append(env, k+"="+v)
}

func expose(c *oci.Config, s string) error {
	words, err := split(s)
	c.ExposedPorts = made(c.ExposedPorts)
	for _, w := range words {
		port, proto, ok := strings.Cut(w, "/")
		if !ok {
			proto = "tcp"
		}
		first, last, isRange := strings.Cut(port, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || from == 0 || to < from {
			return errors.New(strconv.Quote(w) + " is neither a port nor a range of ports")
		}
		if proto != "tcp" && proto != "udp" && proto != "sctp" {
			return errors.New(strconv.Quote(proto) + " is no protocol: there are tcp, udp and sctp")
		}
		for ; from <= to; from++ {
			c.ExposedPorts[strconv.FormatUint(from, 10)+"/"+proto] = struct{}{}
		}
	}
	return err
}

func volumes(c *oci.Config, s string) error {
	var list []string
	var err error
	if s[0] != '[' || json.Unmarshal([]byte(s), &list) != nil {
		list, err = split(s)
	}
	c.Volumes = made(c.Volumes)
	for _, v := range list {
		if v == "" {
			return errors.New("a path is empty")
		}
		c.Volumes[v] = struct{}{}
	}
	return err
}

// made is m, or a map to write to.
func made[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

// healthcheck reads "NONE" or "[--interval=DURATION ...] CMD command".
func healthcheck(c *oci.Config, s string) error {
	if strings.EqualFold(s, "NONE") {
		c.Healthcheck = &oci.Healthcheck{Test: []string{"NONE"}}
		return nil
	}
	h := oci.Healthcheck{}
	for strings.HasPrefix(s, "--") {
		var flag string
		flag, s, _ = strings.Cut(s, " ")
		s = strings.TrimSpace(s)
		name, value, _ := strings.Cut(flag[2:], "=")
		var err error
		switch name {
		case "interval":
			h.Interval, err = time.ParseDuration(value)
		case "timeout":
			h.Timeout, err = time.ParseDuration(value)
		case "start-period":
			h.StartPeriod, err = time.ParseDuration(value)
		case "start-interval":
			h.StartInterval, err = time.ParseDuration(value)
		case "retries":
			h.Retries, err = strconv.Atoi(value)
		default:
			err = errors.New("an unknown flag --" + name)
		}
		if err != nil {
			return err
		}
	}
	word, cmd, _ := strings.Cut(s, " ")
	if cmd = strings.TrimSpace(cmd); !strings.EqualFold(word, "CMD") || cmd == "" {
		return errors.New("write HEALTHCHECK NONE, or HEALTHCHECK [flags] CMD command")
	}
	var list []string
	if cmd[0] == '[' && json.Unmarshal([]byte(cmd), &list) == nil {
		h.Test = append([]string{"CMD"}, list...)
	} else {
		h.Test = []string{"CMD-SHELL", cmd}
	}
	c.Healthcheck = &h
	return nil
}
