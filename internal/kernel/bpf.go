package kernel

import "golang.org/x/sys/unix"

// BPFInsn is one eBPF instruction as the kernel reads it (Documentation/bpf/standardization/
// instruction-set.rst).
type BPFInsn struct {
	Op   uint8
	Regs uint8 // the destination register in the low four bits, the source in the high four
	Off  int16 // of a jump: in instructions, from the next one
	Imm  int32
}

// BPFLoad has the kernel verify and compile a program and returns its descriptor. The name
// is what bpftool shows; the kernel keeps 15 bytes of it.
func BPFLoad(progType uint32, name string, insns []BPFInsn) (int, error) {
	if len(insns) == 0 {
		return -1, unix.EINVAL
	}
	return bpfLoad(progType, name, insns)
}

// BPFAttach attaches a program to a cgroup v2 directory, given by any descriptor of it. The
// program stays until the group is removed: neither descriptor has to be kept.
func BPFAttach(cgroup, prog int, attachType, flags uint32) error {
	return bpfAttach(cgroup, prog, attachType, flags)
}

// BPFAttached is a descriptor of a program that is attached to a cgroup v2 directory itself,
// -1 if there is none. It spares the verification and compilation of the same program
// (BPF_PROG_QUERY and BPF_PROG_GET_FD_BY_ID: Linux 4.15, CAP_SYS_ADMIN).
func BPFAttached(cgroup int, attachType uint32) (int, error) {
	id, err := bpfQuery(cgroup, attachType)
	if err != nil || id == 0 {
		return -1, err
	}
	return bpfByID(id)
}
