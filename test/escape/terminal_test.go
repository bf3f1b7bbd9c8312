package escape_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pty is a terminal of the host with both its ends.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	must(t, err)
	must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	fd, err := unix.IoctlRetInt(int(master.Fd()), unix.TIOCGPTPEER)
	must(t, err)
	// TIOCGPTPEER with flags 0 opens for reading only; by name it opens for both.
	slave, err = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Close(fd))
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

// A launcher that has a terminal keeps it from the container: no descriptor of it, no way to
// open it, and what the user types stays the user's unless -i hands it on.
func TestTerminalOfTheUser(t *testing.T) {
	w := newWorld(t)
	for _, flags := range [][]string{nil, {"-i"}, {"--no-init"}, {"-t", "-i"}, {"--cap-add", "ALL", "--security-opt", "seccomp=unconfined"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			master, slave := pty(t)
			if len(flags) == 0 {
				_, err := master.WriteString("typed\n")
				must(t, err)
			}
			cmd := w.tool(flags, "terminal")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			out := make(chan string)
			go func() {
				var b strings.Builder
				_, _ = io.Copy(&b, master)
				out <- b.String()
			}()
			must(t, cmd.Start())
			must(t, cmd.Wait())
			if len(flags) == 0 {
				line := make([]byte, 16)
				n, err := slave.Read(line)
				must(t, err)
				if string(line[:n]) != "typed\n" {
					t.Errorf("of what was typed there is %q left", line[:n])
				}
			}
			fd := int(slave.Fd()) // which makes it block
			must(t, unix.SetNonblock(fd, true))
			if n, err := unix.Read(fd, make([]byte, 16)); err != unix.EAGAIN {
				t.Errorf("the container typed into the terminal: %d bytes, %v", n, err)
			}
			must(t, slave.Close())
			said := <-out
			if strings.Contains(said, "through") || !strings.Contains(said, "done") {
				t.Errorf("the attacker says: %s", said)
			}
		})
	}
}

// terminal looks for a terminal that is not the container's own.
func terminal() error {
	var own unix.Stat_t
	if err := unix.Stat("/dev/pts", &own); err != nil {
		return err
	}
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil && st.Dev != own.Dev {
			fmt.Println("through: descriptor", fd, "is a terminal of another devpts")
		}
		b := []byte{'x'}
		if err := ioctlPointer(fd, unix.TIOCSTI, &b[0]); err == nil && st.Dev != own.Dev {
			fmt.Println("through: typed into descriptor", fd)
		}
		if err := unix.IoctlSetInt(fd, unix.TIOCSCTTY, 1); err == nil && st.Dev != own.Dev {
			fmt.Println("through: took descriptor", fd)
		}
	}
	switch tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); {
	case errors.Is(err, unix.ENXIO):
	case err != nil:
		fmt.Println("held:", err)
	default:
		number, err := unix.IoctlRetInt(int(tty.Fd()), unix.TIOCGPGRP)
		if _, e := os.Stat("/dev/pts/0"); e != nil {
			fmt.Println("through: a controlling terminal that is not in /dev/pts", number, err)
		}
	}
	for n := 1; n < 64; n++ {
		if f, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err == nil {
			fmt.Println("through: another terminal in /dev/pts", f.Name())
		}
	}
	fmt.Println("done")
	return nil
}
