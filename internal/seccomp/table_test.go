package seccomp

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTableIsUpToDate(t *testing.T) {
	out, err := exec.Command("go", "run", "./gen").Output()
	if err != nil {
		t.Skipf("go run ./gen: %v", err)
	}
	want, err := os.ReadFile("table.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out, want) {
		t.Fatal("table.go is not what go generate writes")
	}
}

func TestFind(t *testing.T) {
	for i := range nameCount {
		if at, ok := find(nameOf(i)); !ok || at != i {
			t.Fatalf("%s: found at %d, %v; it is at %d", nameOf(i), at, ok, i)
		}
	}
	for _, name := range []string{"", "a", "rea", "read ", "reads", "zzz"} {
		if at, ok := find(name); ok {
			t.Fatalf("%q: found at %d", name, at)
		}
	}
}

// A few numbers that everybody knows, and those of the ABI that the test runs on.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		abi  abi
		name string
		want int32
	}{
		{x86_64, "read", 0}, {x86_64, "execve", 59}, {x86_64, "clone3", 435}, {x86_64, "mmap2", -1},
		{x32, "read", x32Bit}, {x32, "execve", x32Bit | 520}, {x32, "pwritev2", x32Bit | 547}, {x32, "uselib", -1},
		{x86, "socketcall", 102}, {x86, "mmap2", 192}, {x86, "socket", 359},
		{aarch64, "read", 63}, {aarch64, "open", -1}, {aarch64, "execve", 221},
		{arm, "set_tls", 0x0f0005}, {arm, "mmap2", 192},
		{Host.entries()[0].abi, "getpid", unix.SYS_GETPID}, {Host.entries()[0].abi, "seccomp", unix.SYS_SECCOMP},
	} {
		at, ok := find(c.name)
		if !ok || numbers[c.abi][at] != c.want {
			t.Errorf("%s of ABI %d: %d, want %d", c.name, c.abi, numbers[c.abi][at], c.want)
		}
	}
}
