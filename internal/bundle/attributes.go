package bundle

import (
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
