// Package runflags translates the flags of run and create, which are Docker's in name and meaning, to a
// request to the engine.
//
// Bind adds the flags to a set, the set is parsed, Request reads what was written into a
// spec.Container and the few options that concern only the command itself. Nothing here acts:
// the translation asks the host only what a flag is about (a device's numbers, the text of an
// --env-file). The flags about networks are in package netflags. A flag that Docker has and Corten does not is in the table of package refused, so
// that it is refused by name. The groups of flags are a file each: streams, life, health, logs,
// process, mounts, limits, blockio, devices, security, namespaces.
package runflags

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/netflags"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// GroupKey is the annotation of a flag that names the heading it is listed under.
const GroupKey = "group"

// Flags is what was written on the command line.
type Flags struct {
	set      *pflag.FlagSet
	general  general
	streams  streams
	life     life
	health   health
	logs     logs
	process  process
	mounts   mounts
	spaces   namespaces
	networks netflags.Flags
	security security
	devices  devices
	limits   limits
	blockIO  blockIO
}

// Options is what concerns the command rather than the container.
type Options struct {
	Plan       PlanForm
	CIDFile    string
	Quiet      bool    // no progress of a pull
	Unnamed    bool    // the user gave no name, and Request made one up
	Detach     bool    // nobody waits for the container
	DetachKeys string  // the bytes that end an attachment
	Attach     Streams // none: those that the container has
	SigProxy   bool    // signals are passed on to the container
	Warning    string  // of flags that have no effect; may be empty

	PreserveFDs int // that the container gets besides those of socket activation
}

// Mode is the verb that the flags are for.
type Mode uint8

// The verbs.
const (
	Run    Mode = iota
	Create      // without the flags that are about a container's running: -d, --detach-keys, --sig-proxy, --plan
)

// PlanForm says how --plan prints.
type PlanForm string

// The forms of a plan.
const (
	NoPlan    PlanForm = ""
	PlanWords PlanForm = "words"
	PlanJSON  PlanForm = "json"
)

// Caller is what the flags may refer to of the process that the user runs.
type Caller struct {
	LookupEnv func(name string) (string, bool) // for --env NAME
}

// Given reports whether the user has written a flag.
func (f *Flags) Given(name string) bool { return f.set.Changed(name) }

// Bind adds the flags of a verb to fs.
func Bind(fs *pflag.FlagSet, mode Mode) *Flags {
	f := &Flags{set: fs}
	fs.SortFlags = false
	f.general.bind(in(fs, "General"), mode)
	f.streams.bind(in(fs, "General"), mode)
	f.life.bind(in(fs, "Life"))
	f.health.bind(in(fs, "Health"))
	f.logs.bind(in(fs, "Log"))
	f.process.bind(in(fs, "Process"))
	f.mounts.bind(in(fs, "File systems"))
	f.networks.Bind(fs, in(fs, "Network").note)
	f.spaces.bind(in(fs, "Namespaces"))
	f.security.bind(in(fs, "Security"))
	f.devices.bind(in(fs, "Devices"))
	f.limits.bind(in(fs, "Limits"))
	f.blockIO.bind(in(fs, "Block devices"))
	return f
}

// Request translates the parsed flags for a container from image that runs args.
func (f *Flags) Request(image string, args []string, who Caller) (engine.RunRequest, Options, error) {
	c := &spec.Container{Version: spec.Version}
	req := engine.RunRequest{Spec: c}
	if err := imageOf(&c.Image, image); err != nil {
		return req, Options{}, err
	}
	c.Process.Args = args
	opts, err := f.general.fill(&req)
	if err != nil {
		return req, opts, err
	}
	// Later ones look at what earlier ones have filled in.
	for _, fill := range []func(*spec.Container) error{
		func(c *spec.Container) error { return f.process.fill(c, f.set, who) },
		func(c *spec.Container) error { return f.streams.fill(&opts, c) },
		func(c *spec.Container) error { return f.life.fill(c, f.set) },
		func(c *spec.Container) error { return f.health.fill(c, f.set) },
		f.logs.fill,
		f.mounts.fill,
		f.spaces.fill,
		func(c *spec.Container) (err error) { opts.Warning, err = f.networks.Fill(c); return err },
		f.security.fill,
		f.devices.fill,
		f.limits.fill,
		f.blockIO.fill,
	} {
		if err := fill(c); err != nil {
			return req, opts, err
		}
	}
	return req, opts, crossCheck(c)
}

// imageOf tells the host's own root from an image. What else a name may be, a reference or
// an image id, is for the engine to find out.
func imageOf(i *spec.Image, name string) error {
	if name == "" {
		return errs.Newf(errs.Invalid, "run image", `""`, "the name is empty").
			WithHint("name an image, such as debian:12, or write host for this machine's own root")
	}
	i.Name, i.Platform = name, name == "host"
	return nil
}

// crossCheck refuses what is right in each part and makes no sense together.
func crossCheck(c *spec.Container) error {
	ns := c.Namespaces
	if ns.UTS.Mode == spec.Host && ns.Hostname+ns.Domainname != "" {
		return values.Conflict("--uts host", "--hostname and --domainname", "they would rename the host")
	}
	if c.Root.ShmSize != 0 && (ns.IPC.Mode == spec.Host || ns.IPC.Mode == spec.None) {
		return values.Conflict("--ipc "+string(ns.IPC.Mode), "--shm-size", "the container gets no /dev/shm of its own")
	}
	if ns.Net.Mode == spec.Of && ns.Hostname != "" {
		return values.Conflict("--network container:"+ns.Net.Path, "--hostname", "it has the other container's name too")
	}
	for name := range c.Sysctls {
		if net := ns.Net; strings.HasPrefix(name, "net.") && !net.New() && net.Mode != spec.None {
			return values.Conflict("--network "+string(net.Mode), "--sysctl "+name, "it would change a network that is not the container's own")
		}
		if isIPCSysctl(name) && ns.IPC.Mode == spec.Host {
			return values.Conflict("--ipc host", "--sysctl "+name, "it would change the host")
		}
	}
	return nil
}

// group binds flags that are listed under one heading. A word in backquotes in a usage text
// names the flag's value in the help.
type group struct {
	set  *pflag.FlagSet
	note map[string][]string // of every flag
}

func in(set *pflag.FlagSet, name string) group {
	return group{set, map[string][]string{GroupKey: {name}}}
}

func (g group) text(p *string, name, short, usage string) {
	g.set.StringVarP(p, name, short, "", usage)
	g.mark(name)
}

// list is a flag that may be repeated; a comma in a value is part of it.
func (g group) list(p *[]string, name, short, usage string) {
	g.set.VarPF(values.Repeated(p), name, short, usage).Annotations = g.note
}

func (g group) yesNo(p *bool, name, short string, value bool, usage string) {
	g.set.BoolVarP(p, name, short, value, usage)
	g.mark(name)
}

func (g group) mark(name string) {
	g.set.Lookup(name).Annotations = g.note
}
