package seccomp

import "github.com/cortenhq/corten/internal/plan"

// Filter is the program as plans have it, under the name that people know it by.
func (p Program) Filter(name string) *plan.Filter {
	f := &plan.Filter{Name: name, Flags: p.Flags, Program: make([]plan.Instruction, len(p.Insns))}
	for i, in := range p.Insns {
		f.Program[i] = plan.Instruction(in)
	}
	return f
}
