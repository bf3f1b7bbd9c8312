package runflags

import (
	"math"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/engine"
)

// general is how the container is named, found and ended.
type general struct {
	name, pull, platform, cidFile, plan string
	stopSignal, stopTimeout             string
	labels, labelFiles                  []string
	rm, quiet, sigProxy, init, noInit   bool
}

func (f *general) bind(g group) {
	g.text(&f.name, "name", "", "Call the container `NAME` (default: a name made up)")
	g.yesNo(&f.rm, "rm", "", false, "Remove the container and its anonymous volumes when it ends")
	g.text(&f.plan, "plan", "", "Print each step that starting would take and do nothing; `FORM` is words or json")
	g.set.Lookup("plan").NoOptDefVal = string(PlanWords)
	g.text(&f.pull, "pull", "", "`WHEN` to ask the registry: always, missing or never (default missing)")
	g.text(&f.platform, "platform", "", "Take the image for `OS/ARCH[/VARIANT]` (default: this machine's)")
	g.yesNo(&f.quiet, "quiet", "q", false, "Do not show the progress of a pull")
	g.text(&f.cidFile, "cidfile", "", "Write the container's id to `FILE`, which must not exist")
	g.list(&f.labels, "label", "l", "Attach `KEY[=VALUE]` to the container (repeatable)")
	g.list(&f.labelFiles, "label-file", "", "Read labels, one a line, from `FILE` (repeatable)")
	g.yesNo(&f.init, "init", "", true, "Run corten-init as PID 1: it reaps orphans and passes signals on")
	g.yesNo(&f.noInit, "no-init", "", false, "Make the command itself PID 1, as --init=false does")
	g.text(&f.stopSignal, "stop-signal", "", "`SIGNAL` that asks the container to end (default SIGTERM)")
	g.text(&f.stopTimeout, "stop-timeout", "", "`SECONDS` to wait for the end before killing; -1 waits for ever (default 10)")
	g.yesNo(&f.sigProxy, "sig-proxy", "", true, "Pass the signals that corten receives on to the container")
}

func (f *general) fill(req *engine.RunRequest, set *pflag.FlagSet) (Options, error) {
	c := req.Spec
	o := Options{Plan: PlanForm(f.plan), CIDFile: f.cidFile, Quiet: f.quiet, SigProxy: f.sigProxy, Unnamed: f.name == ""}
	if o.Plan != NoPlan && o.Plan != PlanWords && o.Plan != PlanJSON {
		return o, bad("plan", f.plan, "no such form", "write --plan for words, or --plan=json")
	}
	var err error
	if c.Name, err = f.nameOf(); err != nil {
		return o, err
	}
	if req.Pull, err = pullPolicy(f.pull); err != nil {
		return o, err
	}
	if req.Platform, err = platformOf(f.platform); err != nil {
		return o, err
	}
	if f.noInit && f.init && set.Changed("init") {
		return o, conflict("--init", "--no-init", "they say the opposite")
	}
	c.Life.Remove, c.Life.NoInit = f.rm, f.noInit || !f.init
	if c.Life.StopSignal, err = stopSignal(f.stopSignal); err != nil {
		return o, err
	}
	if f.stopTimeout != "" {
		n, err := readInt("stop-timeout", f.stopTimeout, -1, math.MaxInt32)
		if err != nil {
			return o, err
		}
		seconds := int(n)
		c.Life.StopTimeout = &seconds
	}
	c.Labels, err = labelsOf(f.labels, f.labelFiles)
	return o, err
}

func (f *general) nameOf() (string, error) {
	if f.name == "" {
		return RandomName(), nil
	}
	name := strings.TrimPrefix(f.name, "/") // Docker shows names with a slash, so people write it
	if !ValidName(name) {
		return "", bad("name", f.name, "not a container name",
			`use two or more letters, digits, "_", "." and "-", beginning with a letter or digit`)
	}
	return name, nil
}

func pullPolicy(s string) (engine.PullPolicy, error) {
	switch p := engine.PullPolicy(s); p {
	case "":
		return engine.PullMissing, nil
	case engine.PullAlways, engine.PullMissing, engine.PullNever:
		return p, nil
	}
	return "", bad("pull", s, "no such policy", "write always, missing or never")
}

func platformOf(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	parts := strings.Split(s, "/")
	for _, p := range parts {
		if p == "" || strings.ContainsAny(p, " \t,:") {
			parts = nil
			break
		}
	}
	if len(parts) < 1 || len(parts) > 3 {
		return "", bad("platform", s, "not a platform", "write OS/ARCH or OS/ARCH/VARIANT: linux/arm64")
	}
	return s, nil
}

// stopSignal brings a signal to the form SIGTERM. As for Docker it may be written without
// SIG, in small letters, or as a number.
func stopSignal(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if n, err := readInt("stop-signal", s, 1, 64); err == nil {
		if name := unix.SignalName(unix.Signal(n)); name != "" {
			return name, nil
		}
		return s, nil // a real-time signal, which has a number only
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if unix.SignalNum(name) == 0 {
		return "", bad("stop-signal", s, "no such signal", "kill -l lists them; a number from 1 to 64 works too")
	}
	return name, nil
}

func labelsOf(flags, files []string) (map[string]string, error) {
	var lines []string
	for _, file := range files {
		more, err := readLines("label-file", file)
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
	}
	lines = append(lines, flags...)
	if len(lines) == 0 {
		return nil, nil
	}
	labels := make(map[string]string, len(lines))
	for _, l := range lines {
		key, value, _ := strings.Cut(l, "=")
		if key == "" {
			return nil, bad("label", l, "the key is empty", "write --label KEY=VALUE")
		}
		labels[key] = value
	}
	return labels, nil
}
