package bundle

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// attributes is how the kernel is to serve a process. What is not said stays as it is in out.
func (t *translator) attributes(p *specs.Process, out *spec.Attributes) {
	if s := p.Scheduler; s != nil {
		out.Scheduler = &spec.Scheduler{Policy: string(s.Policy), Nice: s.Nice, Priority: s.Priority, Flags: texts(s.Flags),
			Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period}
		_, _, err := plan.Schedule{Scheduler: *out.Scheduler}.Numbers()
		t.check("process.scheduler", err)
	}
	if p.IOPriority != nil {
		out.IOPriority = &spec.IOPriority{Class: string(p.IOPriority.Class), Priority: p.IOPriority.Priority}
		_, err := plan.SetIOPriority{IOPriority: *out.IOPriority}.Number()
		t.check("process.ioPriority", err)
	}
	if p.ExecCPUAffinity != nil {
		out.CPUs = spec.Affinity{Initial: p.ExecCPUAffinity.Initial, Final: p.ExecCPUAffinity.Final}
		for _, list := range []string{out.CPUs.Initial, out.CPUs.Final} {
			_, err := plan.ReadList(list)
			t.check("process.execCPUAffinity", err)
		}
	}
}

// machine is what all processes of the container see and get of the machine.
func (t *translator) machine(l *specs.Linux) {
	out := &t.out.Process.Attributes
	if m := l.MemoryPolicy; m != nil {
		out.Memory = &spec.MemoryPolicy{Mode: string(m.Mode), Nodes: m.Nodes, Flags: texts(m.Flags)}
		_, _, err := plan.UseMemory{MemoryPolicy: *out.Memory}.Numbers()
		t.check("linux.memoryPolicy", err)
	}
	if p := l.Personality; p != nil {
		out.Personality = &spec.Personality{Domain: string(p.Domain), Flags: texts(p.Flags)}
		_, err := plan.SeeMachine{Domain: out.Personality.Domain}.Number()
		t.check("linux.personality", err)
		if len(p.Flags) > 0 {
			t.fail("linux.personality", "no flags are known", "leave them out")
		}
	}
}

// netDevices is the interfaces of the host that the container gets, by name.
func (t *translator) netDevices(list map[string]specs.LinuxNetDevice) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		d := spec.NetDevice{Host: name, Name: list[name].Name}
		for _, n := range []string{d.Host, d.Inside()} {
			if n == "" || len(n) > 15 || n == "." || n == ".." || strings.ContainsAny(n, "/: \t\n") || strings.Contains(strings.TrimSuffix(n, "%d"), "%") {
				t.fail("linux.netDevices", strconv.Quote(n)+" is no name of an interface", "15 characters at most; ip link shows those of the host")
			}
		}
		t.out.Networking.Devices = append(t.out.Networking.Devices, d)
	}
	if len(list) > 0 && t.out.Namespaces.Net.Mode == spec.Host {
		t.fail("linux.netDevices", "the container has no network namespace of its own", `add {"type": "network"} to linux.namespaces`)
	}
}

// check keeps an error of a part of config.json.
func (t *translator) check(what string, err error) {
	if t.err == nil && err != nil {
		t.err = errs.New(errs.Invalid, what, "", err)
	}
}

func texts[T ~string](list []T) (out []string) {
	for _, w := range list {
		out = append(out, string(w))
	}
	return out
}
