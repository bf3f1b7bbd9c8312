package runflags

import (
	"strings"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
)

// general is how the container is named and found.
type general struct {
	name, pull, platform, cidFile, plan string
	labels, labelFiles                  []string
	quiet                               bool
}

func (f *general) bind(g group, mode Mode) {
	g.text(&f.name, "name", "", "Call the container `NAME` (default: a name made up)")
	if mode == Run {
		g.text(&f.plan, "plan", "", "Print each step that starting would take and do nothing; `FORM` is words or json")
		g.set.Lookup("plan").NoOptDefVal = string(PlanWords)
	}
	g.text(&f.pull, "pull", "", "`WHEN` to ask the registry: always, missing or never (default missing)")
	g.text(&f.platform, "platform", "", "Take the image for `OS/ARCH[/VARIANT]` (default: this machine's)")
	g.yesNo(&f.quiet, "quiet", "q", false, "Do not show the progress of a pull")
	g.text(&f.cidFile, "cidfile", "", "Write the container's id to `FILE`, which must not exist")
	g.list(&f.labels, "label", "l", "Attach `KEY[=VALUE]` to the container (repeatable)")
	g.list(&f.labelFiles, "label-file", "", "Read labels, one a line, from `FILE` (repeatable)")
}

func (f *general) fill(req *engine.RunRequest) (Options, error) {
	c := req.Spec
	o := Options{Plan: PlanForm(f.plan), CIDFile: f.cidFile, Quiet: f.quiet, Unnamed: f.name == ""}
	if o.Plan != NoPlan && o.Plan != PlanWords && o.Plan != PlanJSON {
		return o, values.Bad("plan", f.plan, "no such form", "write --plan for words, or --plan=json")
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
	c.Labels, err = labelsOf(f.labels, f.labelFiles)
	return o, err
}

func (f *general) nameOf() (string, error) {
	if f.name == "" {
		return values.RandomName(), nil
	}
	name := strings.TrimPrefix(f.name, "/") // Docker shows names with a slash, so people write it
	if !values.ValidName(name) {
		return "", values.Bad("name", f.name, "not a container name",
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
	return "", values.Bad("pull", s, "no such policy", "write always, missing or never")
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
		return "", values.Bad("platform", s, "not a platform", "write OS/ARCH or OS/ARCH/VARIANT: linux/arm64")
	}
	return s, nil
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
			return nil, values.Bad("label", l, "the key is empty", "write --label KEY=VALUE")
		}
		labels[key] = value
	}
	return labels, nil
}
