package seccomp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/spec"
)

// The tests here hand programs to the kernel, which leaves a process no way back: each
// runs in a child, which is this test binary again with childEnv set.
const childEnv = "CORTEN_SECCOMP_TEST_CHILD"

// job is what a child does under a profile: calls, or the program Exec.
type job struct {
	Profile *spec.Seccomp
	Calls   []job1
	Exec    string
}

// job1 is one call, and the answer that its parent expects.
type job1 struct {
	What string
	Nr   uintptr
	Args [6]uint64
	Want syscall.Errno
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := child(text); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	if err := attach(j.Profile); err != nil {
		return err
	}
	for _, k := range j.Calls {
		a := k.Args
		_, _, errno := unix.RawSyscall6(k.Nr, uintptr(a[0]), uintptr(a[1]), uintptr(a[2]), uintptr(a[3]), uintptr(a[4]), uintptr(a[5]))
		if errno != k.Want {
			fmt.Printf("%s: %d (%v), want %d (%v)\n", k.What, errno, errno, k.Want, k.Want)
		}
	}
	if j.Exec != "" {
		return unix.Exec(j.Exec, []string{"test"}, nil)
	}
	return nil
}

// attach puts all threads of this process under the profile.
func attach(p *spec.Seccomp) error {
	prog, err := Compile(p, Host)
	if err != nil {
		return err
	}
	var filter []unix.SockFilter
	for _, in := range prog.Insns {
		filter = append(filter, unix.SockFilter{Code: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K})
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(prog.Flags|flagTSync),
		uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("attach: %w", errno)
	}
	return nil
}

// run returns what the child printed, and the signal that killed it.
func run(t *testing.T, j job) (string, syscall.Signal) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{childEnv + "=" + string(text)}
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if st := exit.Sys().(syscall.WaitStatus); st.Signaled() {
			return string(out), st.Signal()
		}
		return fmt.Sprintf("%sexit status %d", out, exit.ExitCode()), 0
	} else if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

func TestKernelUnderDefault(t *testing.T) {
	nr := func(name string) uintptr {
		place, ok := find(name)
		if !ok {
			t.Fatal(name)
		}
		return uintptr(numbers[Host.entries()[0].abi][place])
	}
	calls := []job1{
		{"getpid", nr("getpid"), [6]uint64{}, 0},
		{"mount", nr("mount"), [6]uint64{}, unix.EPERM},
		{"unshare of nothing", nr("unshare"), [6]uint64{}, unix.EPERM},
		{"clone of a user namespace", nr("clone"), [6]uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, unix.EPERM},
		{"clone3", nr("clone3"), [6]uint64{}, unix.ENOSYS},
		{"keyctl", nr("keyctl"), [6]uint64{}, unix.EPERM},
		{"bpf", nr("bpf"), [6]uint64{}, unix.EPERM},
		{"io_uring_setup", nr("io_uring_setup"), [6]uint64{1}, unix.EPERM},
		{"userfaultfd", nr("userfaultfd"), [6]uint64{}, unix.EPERM},
		{"a call of a newer kernel", nr("listns"), [6]uint64{}, unix.ENOSYS},
		{"no call", 5000, [6]uint64{}, unix.ENOSYS},
		{"number -1", ^uintptr(0), [6]uint64{}, unix.ENOSYS},
		{"personality: ask", nr("personality"), [6]uint64{0xffffffff}, 0},
		{"personality: no randomness", nr("personality"), [6]uint64{0x40000}, unix.EPERM},
		{"socket of AF_UNIX", nr("socket"), [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM}, 0},
		{"socket of AF_INET", nr("socket"), [6]uint64{unix.AF_INET, unix.SOCK_STREAM}, 0},
		{"socket of AF_ALG", nr("socket"), [6]uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}, unix.EAFNOSUPPORT},
		{"socket of AF_ALG with a bit above", nr("socket"), [6]uint64{1<<32 | unix.AF_ALG, unix.SOCK_SEQPACKET}, unix.EAFNOSUPPORT},
		{"socket of AF_VSOCK", nr("socket"), [6]uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EAFNOSUPPORT},
	}
	if out, sig := run(t, job{Profile: Default(nil), Calls: calls}); out != "" || sig != 0 {
		t.Fatalf("%s, %v", out, sig)
	}
}

// The kernel compares 64-bit arguments as the model does. sched_yield takes no argument,
// so whatever is in the registers does no harm when it is let through.
func TestKernelComparesArguments(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	values := []uint64{0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 32, 1<<32 + 1, 1<<63 - 1, 1 << 63, ^uint64(0) - 1, ^uint64(0)}
	value := func() uint64 { return values[rng.IntN(len(values))] }
	p := &spec.Seccomp{DefaultAction: spec.ActAllow}
	for i := range uint(60) {
		errno := 200 + i
		r := spec.SeccompRule{Names: []string{"sched_yield"}, Action: spec.ActErrno, ErrnoRet: &errno}
		first := uint(rng.IntN(6))
		for _, index := range []uint{first, (first + 1) % 6} {
			r.Args = append(r.Args, spec.SeccompArg{Index: index, Op: ops[rng.IntN(len(ops))], Value: value(), ValueTwo: value()})
		}
		p.Syscalls = append(p.Syscalls, r)
	}
	e := Host.entries()[0]
	var calls []job1
	for range 2000 {
		k := call{audit: e.audit, nr: unix.SYS_SCHED_YIELD}
		for i := range k.args {
			k.args[i] = value()
		}
		want := syscall.Errno(0)
		if ret := model(p, Host, k); ret != retAllow {
			want = syscall.Errno(ret &^ retAction)
		}
		calls = append(calls, job1{fmt.Sprintf("%#x", k.args), unix.SYS_SCHED_YIELD, k.args, want})
	}
	for part := range len(calls) / 500 { // an environment string has at most 128 KiB
		if out, sig := run(t, job{Profile: p, Calls: calls[500*part : 500*part+500]}); out != "" || sig != 0 {
			t.Fatalf("%s, %v", out, sig)
		}
	}
}

func TestKernelKills(t *testing.T) {
	for _, action := range []spec.SeccompAction{spec.ActKillProcess, spec.ActTrap} {
		p := &spec.Seccomp{DefaultAction: spec.ActAllow, Syscalls: []spec.SeccompRule{{Names: []string{"sched_yield"}, Action: action}}}
		out, sig := run(t, job{Profile: p, Calls: []job1{{Nr: unix.SYS_SCHED_YIELD}}})
		// Go's handler of SIGSYS, which a trap raises, prints a trace and exits.
		if sig != unix.SIGSYS && out != "exit status 2" {
			t.Errorf("%s: %s, %v", action, out, sig)
		}
	}
}

// Numbers of the x32 ABI do not lead past the rules for those of x86-64.
func TestKernelX32(t *testing.T) {
	if Host != AMD64 {
		t.Skip("x32 is an ABI of amd64")
	}
	calls := []job1{{Nr: x32Bit | unix.SYS_GETPID}}
	if out, sig := run(t, job{Profile: Default(nil), Calls: calls}); sig != unix.SIGSYS {
		t.Fatalf("%s, %v", out, sig)
	}
}

// int 0x80 enters the kernel as 32-bit x86, from a 32-bit program and from any other.
func TestKernelX86(t *testing.T) {
	if Host != AMD64 {
		t.Skip("32-bit x86 is an ABI of amd64")
	}
	const schedYield, mount, socketcall = 158, 21, 102
	dir := t.TempDir()
	program := func(name string, wide bool, nr uint32) string {
		path := filepath.Join(dir, fmt.Sprintf("%s-%d", name, nr))
		if err := os.WriteFile(path, int80(wide, nr), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if out, sig := run(t, job{Profile: &spec.Seccomp{DefaultAction: spec.ActAllow, Architectures: []spec.SeccompArch{spec.ArchX86}},
		Exec: program("elf32", false, schedYield)}); out != "" || sig != 0 {
		t.Skipf("32-bit programs do not run here: %s, %v", out, sig)
	}
	for _, wide := range []bool{false, true} {
		name := map[bool]string{false: "elf32", true: "elf64"}[wide]
		for _, c := range []struct {
			p    *spec.Seccomp
			nr   uint32
			want string
			sig  syscall.Signal
		}{
			{Default(nil), schedYield, "", unix.SIGSYS},
			{&spec.Seccomp{DefaultAction: spec.ActAllow}, schedYield, "", unix.SIGSYS},
			{Default(nil, spec.ArchX86), schedYield, "", 0},
			{Default(nil, spec.ArchX86), mount, "exit status 1", 0},         // EPERM
			{Default(nil, spec.ArchX86), 470, "exit status 38", 0},          // ENOSYS
			{Default(nil, spec.ArchX86), socketcall, "exit status 22", 0},   // EINVAL, from the kernel: call 0
			{Default(nil, spec.ArchX86), x32Bit | 158, "exit status 38", 0}, // ENOSYS
		} {
			if out, sig := run(t, job{Profile: c.p, Exec: program(name, wide, c.nr)}); out != c.want || sig != c.sig {
				t.Errorf("%s, call %d: %q, %v, want %q, %v", name, c.nr, out, sig, c.want, c.sig)
			}
		}
	}
}

// int80 is a static ELF program, for 64 or 32 bits, that makes one system call with
// int 0x80 and no arguments, and exits with its errno.
func int80(wide bool, nr uint32) []byte {
	le := binary.LittleEndian
	code := le.AppendUint32([]byte{0x31, 0xdb, 0xb8}, nr) // xor ebx, ebx; mov eax, nr
	code = append(code, 0xcd, 0x80,                       // int 0x80
		0x89, 0xc3, 0xf7, 0xdb) // mov ebx, eax; neg ebx
	if wide {
		code = append(code, 0x89, 0xdf, 0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05) // mov edi, ebx; mov eax, 231; syscall: exit_group
	} else {
		code = append(code, 0xb8, 1, 0, 0, 0, 0xcd, 0x80) // mov eax, 1; int 0x80: exit
	}
	const base = 0x400000
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			binary.Write(&b, le, v)
		}
	}
	if wide {
		const headers = 64 + 56
		put([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), uint16(2), uint16(62), uint32(1),
			uint64(base+headers), uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0))
		put(uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), uint64(headers+len(code)), uint64(headers+len(code)), uint64(4096))
	} else {
		const headers = 52 + 32
		put([]byte("\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), uint16(2), uint16(3), uint32(1),
			uint32(base+headers), uint32(52), uint32(0), uint32(0), uint16(52), uint16(32), uint16(1), uint16(0), uint16(0), uint16(0))
		put(uint32(1), uint32(0), uint32(base), uint32(base), uint32(headers+len(code)), uint32(headers+len(code)), uint32(5), uint32(4096))
	}
	put(code)
	return b.Bytes()
}
