package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// progLoadAttr is the part of union bpf_attr (linux/bpf.h) that BPF_PROG_LOAD reads. On the
// 64-bit machines that we build for, its pointers are plain 64-bit words.
type progLoadAttr struct {
	progType    uint32
	insnCount   uint32
	insns       unsafe.Pointer
	license     unsafe.Pointer
	logLevel    uint32
	logSize     uint32
	logBuf      unsafe.Pointer
	kernVersion uint32
	flags       uint32
	name        [unix.BPF_OBJ_NAME_LEN]byte
}

// progAttachAttr is the part that BPF_PROG_ATTACH reads.
type progAttachAttr struct {
	target     uint32
	prog       uint32
	attachType uint32
	flags      uint32
}

// progQueryAttr is the part that BPF_PROG_QUERY reads and writes.
type progQueryAttr struct {
	target      uint32
	attachType  uint32
	queryFlags  uint32
	attachFlags uint32
	ids         unsafe.Pointer
	count       uint32 // in: room in ids; out: programs attached
	_           uint32
}

func bpfLoad(progType uint32, name string, insns []BPFInsn) (int, error) {
	license := [...]byte{'A', 'p', 'a', 'c', 'h', 'e', '-', '2', '.', '0', 0} // only helpers care, and we call none
	attr := progLoadAttr{
		progType:  progType,
		insnCount: uint32(len(insns)),
		insns:     unsafe.Pointer(unsafe.SliceData(insns)),
		license:   unsafe.Pointer(&license),
	}
	copy(attr.name[:len(attr.name)-1], name)
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return -1, err
	}
	return int(fd), nil
}

func bpfAttach(cgroup, prog int, attachType, flags uint32) error {
	attr := progAttachAttr{uint32(cgroup), uint32(prog), attachType, flags}
	_, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return err
}

// bpfQuery is the number of the first program attached to a cgroup, 0 if there is none. No
// program has the number 0.
func bpfQuery(cgroup int, attachType uint32) (uint32, error) {
	var ids [1]uint32
	attr := progQueryAttr{
		target:     uint32(cgroup),
		attachType: attachType,
		ids:        unsafe.Pointer(&ids),
		count:      uint32(len(ids)),
	}
	_, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err == unix.ENOSPC { // there are more than we have room for
		err = nil
	}
	return ids[0], err
}

func bpfByID(id uint32) (int, error) {
	attr := [3]uint32{id} // {id, next id, flags}
	fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return -1, err
	}
	return int(fd), nil
}

// bpfTries bounds how often an interrupted load is repeated.
const bpfTries = 10

// bpf is bpf(2). A pending signal makes the verifier give up with EAGAIN (Linux 4.20), and
// Go's scheduler sends signals of its own: the call is repeated.
func bpf(cmd uintptr, attr unsafe.Pointer, size uintptr) (uintptr, error) {
	var errno unix.Errno
	for range bpfTries {
		var r uintptr
		r, _, errno = unix.Syscall(unix.SYS_BPF, cmd, uintptr(attr), size)
		if errno == 0 {
			return r, nil
		}
		if errno != unix.EAGAIN && errno != unix.EINTR {
			break
		}
	}
	return 0, errno
}
