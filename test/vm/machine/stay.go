package machine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// state is what a machine that outlives its process is found by, in "on" of its folder.
type state struct {
	PID  int
	Port int
}

// remember writes down that the machine is on.
func (m *Machine) remember(p *power) error {
	if m.opts.Dir == "" {
		return nil
	}
	b, err := json.Marshal(state{PID: p.qemu.Pid, Port: p.port})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.dir, "on"), b, 0o600)
}

// attach finds the machine on, as another process left it.
func (m *Machine) attach() bool {
	var s state
	b, err := os.ReadFile(filepath.Join(m.dir, "on"))
	if err != nil || json.Unmarshal(b, &s) != nil || !m.runs(s.PID) {
		return false
	}
	qemu, err := os.FindProcess(s.PID)
	if err != nil {
		return false
	}
	p := &power{qemu: qemu, port: s.Port, over: make(chan struct{})}
	go func() {
		// It is nobody's child that could be waited for.
		for m.runs(s.PID) {
			time.Sleep(100 * time.Millisecond)
		}
		close(p.over)
	}()
	m.power.Store(p)
	return true
}

// runs says whether a process is this machine's QEMU.
func (m *Machine) runs(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && strings.Contains(string(b), filepath.Join(m.dir, "console")+"\x00")
}

// On says whether the machine is on.
func (m *Machine) On() bool {
	select {
	case <-m.Off():
		return false
	default:
		return true
	}
}
