package escape_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// victimKey is the description of a key in the host's keyrings.
const victimKey = "corten-escape-secret"

// victim is a process of the host with what a container in the host's namespaces could be
// after: it has an abstract socket, a shared memory segment and a message queue that only
// root may use, and runs until its stdin ends.
func victim() {
	name := fmt.Sprintf("corten-escape-%d", os.Getpid())
	l, err := net.Listen("unix", "@"+name)
	fail(err)
	go func() {
		for {
			if c, err := l.Accept(); err == nil {
				c.Close()
			}
		}
	}()
	shm, err := unix.SysvShmGet(os.Getpid(), 4096, unix.IPC_CREAT|0o600)
	fail(err)
	queue, _ := unix.BytePtrFromString(name)
	_, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(queue)), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0)
	fail(errnoError(e))
	fmt.Println(name)
	_, _ = io.Copy(io.Discard, os.Stdin)
	_, _ = unix.SysvShmCtl(shm, unix.IPC_RMID, nil)
	_, _, _ = unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(queue)), 0, 0)
	os.Exit(0)
}

func fail(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// victim starts the process, and adds a key to the keyring of its user.
func (w *world) victim(t *testing.T) {
	t.Helper()
	cmd := exec.Command(filepath.Join(w.attack, "attack"), "victim")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	name, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	pid := strconv.Itoa(cmd.Process.Pid)
	if !strings.HasSuffix(name, pid+"\n") {
		t.Fatalf("the victim: %s", name)
	}
	w.env = append(w.env, "VICTIM="+pid)

	key, err := unix.AddKey("user", victimKey, []byte("secret"), unix.KEY_SPEC_USER_KEYRING)
	must(t, err)
	t.Cleanup(func() { _, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, key, unix.KEY_SPEC_USER_KEYRING, 0, 0) })
}

// keyring gives this thread, and so the programs that this test starts from now on, a
// session keyring with a key in it. The thread is not given back, and ends with the test.
func keyring(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	_, err := unix.KeyctlJoinSessionKeyring("corten-escape")
	must(t, err)
	_, err = unix.AddKey("user", victimKey, []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
	must(t, err)
}

func victimPID() int {
	pid, err := strconv.Atoi(os.Getenv("VICTIM"))
	if err != nil {
		panic(err)
	}
	return pid
}

// sharedAttempts are on what the host's namespaces hold.
func sharedAttempts() []attempt {
	all := everywhere | shared
	file := func(name string, flag int) func() error {
		return func() error { return opensFor("/proc/"+os.Getenv("VICTIM")+"/"+name, flag)() }
	}
	return []attempt{
		{"signal a process of the host", all, hostlike | bare, func() error { return unix.Kill(victimPID(), 0) }},
		{"signal a process of the host by a descriptor", all, hostlike | bare, func() error {
			fd, err := unix.PidfdOpen(victimPID(), 0)
			if err != nil {
				return err
			}
			return unix.PidfdSendSignal(fd, 0, nil, 0)
		}},
		{"trace a process of the host", all, hostlike | bare, func() error { return ptraceSeize(victimPID()) }},
		{"read memory of a process of the host", all, hostlike | bare, func() error { return readMemory(victimPID()) }},
		{"take a descriptor of a process of the host", all, hostlike | bare, func() error { return takeDescriptor(victimPID()) }},
		{"see the environment of a process of the host", all, hostlike | bare, file("environ", unix.O_RDONLY)},
		{"open the memory of a process of the host", all, hostlike | bare, file("mem", unix.O_RDWR)},
		{"enter the root of a process of the host", all, hostlike | bare, file("root", unix.O_PATH|unix.O_DIRECTORY)},
		{"read a file by the root of a process of the host", all, hostlike | bare, reads("/proc/"+os.Getenv("VICTIM")+"/root"+os.Getenv("MARK"), "secret")},
		{"set the priority of a process of the host", all, hostlike | bare, func() error { return unix.Setpriority(unix.PRIO_PROCESS, victimPID(), 0) }},
		{"set the OOM score of a process of the host", all, hostlike | bare, file("oom_score_adj", unix.O_WRONLY)},
		{"enter the namespaces of a process of the host", all, hostlike, enterNamespaces},
		{"connect to an abstract socket of the host", everywhere, shared | hostlike | bare, func() error {
			c, err := net.Dial("unix", "@corten-escape-"+os.Getenv("VICTIM"))
			if err != nil {
				return err
			}
			return c.Close()
		}},
		{"attach shared memory of the host", all, hostlike | bare, func() error {
			id, err := unix.SysvShmGet(victimPID(), 4096, 0)
			if err != nil {
				return err
			}
			_, err = unix.SysvShmAttach(id, 0, unix.SHM_RDONLY)
			return err
		}},
		{"open a message queue of the host", all, hostlike | bare, func() error {
			name, _ := unix.BytePtrFromString("corten-escape-" + os.Getenv("VICTIM"))
			_, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_RDWR, 0, 0, 0, 0)
			return errnoError(e)
		}},
		{"see packets of the host", shared, hostlike | bare, socket(unix.AF_PACKET, unix.SOCK_RAW, 0)},
		{"forge packets of the host", shared, hostlike | bare, socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)},
		{"configure the host's network", shared, hostlike | bare, loopbackAgain},
		{"set the host's network settings", shared, hostlike | bare, opensFor("/proc/sys/net/ipv4/ip_forward", unix.O_WRONLY)},
		{"set the host's name", shared, hostlike, sameHostname},
		{"write the host's /sys", shared, hostlike, writeSomewhere("/sys", func(string) bool { return false })},
	}
}

// enterNamespaces enters each namespace of the victim; they are the host's.
func enterNamespaces() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for _, ns := range []string{"mnt", "net", "ipc", "uts", "cgroup", "pid", "user"} {
		fd, err := unix.Open("/proc/"+os.Getenv("VICTIM")+"/ns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Setns(fd, 0); err == nil {
			fmt.Println(ns)
			return nil
		} else if ns == "user" {
			return err
		}
	}
	return errHeld
}

// loopbackAgain sets the flags of the loopback interface to what they are.
func loopbackAgain() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

func sameHostname() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	return unix.Sethostname([]byte(unix.ByteSliceToString(u.Nodename[:])))
}
