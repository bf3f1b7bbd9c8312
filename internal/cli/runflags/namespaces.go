package runflags

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

// namespaces is what the container shares with the host and what it has for itself.
type namespaces struct {
	userns, pid, ipc, uts, cgroupns, hostname, domainname string
	uidMaps, gidMaps                                      []string
	sysctls, timeOffsets                                  []string
}

func (f *namespaces) bind(g group) {
	g.text(&f.hostname, "hostname", "h", "Set the host name to `NAME` (default: the first 12 digits of the container's id)")
	g.text(&f.domainname, "domainname", "", "Set the NIS domain name to `NAME`")
	g.text(&f.userns, "userns", "", "`MODE` of users: auto, a range of ids of its own; keep-id, the caller's id inside; "+
		"map:INSIDE:HOST:SIZE; host, root is the host's root (default auto)")
	g.list(&f.uidMaps, "uidmap", "", "Map users as `INSIDE:HOST:SIZE` says (repeatable)")
	g.list(&f.gidMaps, "gidmap", "", "Map groups as `INSIDE:HOST:SIZE` says (repeatable; default: as --uidmap)")
	g.text(&f.pid, "pid", "", "`MODE` of processes: private, or host to see all (default private)")
	g.text(&f.ipc, "ipc", "", "`MODE` of shared memory and queues: private, shareable, host, or none for no /dev/shm (default private)")
	g.text(&f.uts, "uts", "", "`MODE` of the host name: private or host (default private)")
	g.text(&f.cgroupns, "cgroupns", "", "`MODE` of control groups: private or host (default private)")
	g.list(&f.timeOffsets, "time-offset", "", "Shift a clock: `CLOCK=DURATION`, as in boottime=+24h or monotonic=-90s (repeatable)")
	g.list(&f.sysctls, "sysctl", "", "Set the kernel setting `NAME=VALUE` of the container's namespaces (repeatable)")
}

func (f *namespaces) fill(c *spec.Container) error {
	ns := &c.Namespaces
	if err := f.users(&ns.User); err != nil {
		return err
	}
	var err error
	for _, m := range []struct {
		flag, value string
		ns          *spec.Namespace
		also        []string
	}{
		{"pid", f.pid, &ns.PID, nil},
		{"ipc", f.ipc, &ns.IPC, []string{"shareable", "none"}},
		{"uts", f.uts, &ns.UTS, nil},
		{"cgroupns", f.cgroupns, &ns.Cgroup, nil},
	} {
		if m.ns.Mode, err = nsMode(m.flag, m.value, m.also); err != nil {
			return err
		}
	}
	if ns.TimeOffset, err = timeOffsets(f.timeOffsets); err != nil {
		return err
	}
	if ns.Hostname, err = hostname("hostname", f.hostname); err != nil {
		return err
	}
	if ns.Domainname, err = hostname("domainname", f.domainname); err != nil {
		return err
	}
	c.Sysctls, err = sysctlsOf(f.sysctls)
	return err
}

func nsMode(flag, value string, also []string) (spec.NSMode, error) {
	modes := append([]string{"private", "host"}, also...)
	hint := "the modes are " + strings.Join(modes, ", ")
	switch {
	case value == "" || value == "private":
		return spec.Private, nil
	case slices.Contains(modes, value):
		return spec.NSMode(value), nil
	case strings.HasPrefix(value, "container:") || strings.HasPrefix(value, "ns:") || strings.HasPrefix(value, "pod:"):
		return "", values.NotBuilt("--"+flag+" "+value, hint)
	}
	return "", values.Bad(flag, value, "no such mode", hint)
}

const mapHint = "write INSIDE:HOST:SIZE, three numbers: 0:100000:65536"

// users reads --userns with --uidmap and --gidmap. Maps alone choose the mode map.
func (f *namespaces) users(u *spec.UserNS) error {
	uids, gids := f.uidMaps, f.gidMaps
	mode, text, _ := strings.Cut(f.userns, ":")
	if mode == "" && len(uids)+len(gids) > 0 {
		mode = "map"
	}
	switch m := spec.UserNSMode(mode); {
	case m == spec.UserMap:
		u.Mode = m
	case text != "" && (mode == "auto" || m == spec.UserKeepID):
		return values.NotBuilt("--userns "+f.userns, "leave the options out, or give the map with --uidmap and --gidmap")
	case mode == "container" || mode == "ns" || mode == "nomap":
		return values.NotBuilt("--userns "+f.userns, "the modes are auto, keep-id, map and host")
	case text != "" || mode != "" && mode != "auto" && m != spec.UserHost && m != spec.UserKeepID:
		return values.Bad("userns", f.userns, "no such mode", "the modes are auto, keep-id, map:INSIDE:HOST:SIZE and host")
	case len(uids)+len(gids) > 0:
		return values.Conflict("--userns "+mode, "--uidmap and --gidmap", "the mode makes the map itself")
	case mode != "auto":
		u.Mode = m
	}
	if u.Mode != spec.UserMap {
		return nil
	}
	if text != "" {
		if len(uids)+len(gids) > 0 {
			return values.Conflict("--userns map:", "--uidmap and --gidmap", "both give the map")
		}
		uids = strings.Split(text, ",")
	}
	if len(uids)+len(gids) == 0 {
		return values.Bad("userns", f.userns, "no map given", "write --userns map:0:100000:65536, or add --uidmap and --gidmap")
	}
	if len(uids) == 0 {
		uids = gids
	}
	if len(gids) == 0 {
		gids = uids
	}
	var err error
	if u.UIDMap, err = idMaps("uidmap", uids); err != nil {
		return err
	}
	u.GIDMap, err = idMaps("gidmap", gids)
	return err
}

// idMaps reads lines of a map and checks what the kernel would refuse without a word,
// user_namespaces(7).
func idMaps(flag string, texts []string) ([]spec.IDMap, error) {
	const most = 340 // lines in a map since Linux 4.15
	if len(texts) > most {
		return nil, values.Bad(flag, "...", "more than 340 lines", "join ranges that follow one another")
	}
	maps := make([]spec.IDMap, 0, len(texts))
	root := false
	for _, s := range texts {
		m, ok := parseIDMap(s)
		if !ok {
			return nil, values.Bad(flag, s, "not a map", mapHint)
		}
		for _, o := range maps {
			if overlap(m.Container, o.Container, m.Size, o.Size) || overlap(m.Host, o.Host, m.Size, o.Size) {
				return nil, values.Bad(flag, s, "it overlaps another map", "each id may be mapped once, inside and on the host")
			}
		}
		root = root || m.Container == 0
		maps = append(maps, m)
	}
	if !root {
		return nil, values.Bad(flag, texts[0], "nothing is mapped to root, id 0 inside", "add a map that begins with 0: 0:100000:1")
	}
	return maps, nil
}

func parseIDMap(s string) (m spec.IDMap, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return m, false
	}
	for i, p := range []*uint32{&m.Container, &m.Host, &m.Size} {
		n, err := strconv.ParseUint(parts[i], 10, 32)
		if err != nil {
			return m, false
		}
		*p = uint32(n)
	}
	// The last id, 2^32-1, stands for "none" in system calls and cannot be mapped.
	const end = 1<<32 - 1
	return m, m.Size > 0 && uint64(m.Container)+uint64(m.Size) <= end && uint64(m.Host)+uint64(m.Size) <= end
}

func overlap(a, b, sizeA, sizeB uint32) bool {
	return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
}

// timeOffsets reads CLOCK=DURATION: a number of seconds or a duration as Go writes it.
func timeOffsets(texts []string) (map[string]int64, error) {
	const hint = "write boottime=+24h or monotonic=-90s"
	if len(texts) == 0 {
		return nil, nil
	}
	out := map[string]int64{}
	for _, s := range texts {
		clock, value, _ := strings.Cut(s, "=")
		if clock != "monotonic" && clock != "boottime" {
			return nil, values.Bad("time-offset", s, "only the clocks monotonic and boottime can be shifted", hint)
		}
		if _, twice := out[clock]; twice {
			return nil, values.Bad("time-offset", s, "the clock is shifted twice", "leave one of them out")
		}
		if last := len(value) - 1; last >= 0 && value[last] >= '0' && value[last] <= '9' {
			value += "s"
		}
		d, err := time.ParseDuration(value)
		if err != nil {
			return nil, values.Bad("time-offset", s, "not a duration", hint)
		}
		out[clock] = int64(d)
	}
	return out, nil
}

// hostname checks a name that the kernel keeps in 64 bytes, uname(2).
func hostname(flag, s string) (string, error) {
	const hint = `use up to 64 letters, digits, "-" and ".", as in web-1.example.org`
	if len(s) > 64 {
		return "", values.Bad(flag, s, "longer than 64 characters", hint)
	}
	if s == "" {
		return "", nil
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notInLabel) {
			return "", values.Bad(flag, s, "not a host name", hint)
		}
	}
	return s, nil
}

// notInLabel allows the underscore, which is no part of a host name but of many.
func notInLabel(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// sysctlsOf allows only settings that a namespace of the container has for itself.
func sysctlsOf(texts []string) (map[string]string, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	out := make(map[string]string, len(texts))
	for _, s := range texts {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, values.Bad("sysctl", s, "no value", "write --sysctl NAME=VALUE: net.ipv4.ip_forward=1")
		}
		if !strings.Contains(name, ".") { // sysctl(8) takes both ways of writing
			name = strings.ReplaceAll(name, "/", ".")
		}
		switch {
		case name == "kernel.hostname" || name == "kernel.domainname":
			return nil, values.Bad("sysctl", s, "there is a flag for it", "use --"+strings.TrimPrefix(name, "kernel."))
		case strings.Contains(name, "..") || !strings.HasPrefix(name, "net.") && !isIPCSysctl(name):
			return nil, values.Bad("sysctl", s, "not a setting of a namespace: it would change the host",
				"settings that containers have are net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm*")
		}
		out[name] = value
	}
	return out, nil
}

// isIPCSysctl reports whether the IPC namespace has a setting for itself, ipc_namespaces(7).
func isIPCSysctl(name string) bool {
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return true
	}
	return strings.HasPrefix(name, "fs.mqueue.")
}
