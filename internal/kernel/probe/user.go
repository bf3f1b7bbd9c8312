package probe

import (
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What ordinary users need; root is asked for what it can set up for them.
func user() []feature {
	const ranges = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
	all := []feature{
		{"subuid", "gives containers of ordinary users more than one user id", "such containers have a single user",
			ranges, used, subordinate("/etc/subuid")},
		{"subgid", "gives them more than one group id", "such containers have a single group",
			ranges, used, subordinate("/etc/subgid")},
		{"newuidmap", "lets ordinary users map the ids that they were given", "containers of ordinary users have a single user",
			"package uidmap (Debian) or shadow-utils", used, newuidmap},
	}
	if os.Getuid() == 0 {
		return all
	}
	return append(all,
		feature{"lingering", "keeps this user's containers when the user logs out", "they end at logout",
			"loginctl enable-linger", used, lingering},
		feature{"XDG_RUNTIME_DIR", "keeps what a reboot should forget", "a folder in /tmp does",
			"log in through PAM with pam_systemd, or set XDG_RUNTIME_DIR to a folder of this user's alone", used, runtimeDir})
}

// subordinate looks for this user's line, NAME-OR-NUMBER:FIRST:COUNT (subuid(5)); root
// looks for anybody's.
func subordinate(path string) func(*host) finding {
	return func(*host) finding {
		b, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return unknown(words(err))
		}
		uid := strconv.Itoa(os.Getuid())
		name := userName(uid)
		count, users := 0, 0
		for l := range strings.Lines(string(b)) {
			f := strings.Split(strings.TrimSpace(l), ":")
			if len(f) != 3 {
				continue
			}
			users++
			if n, err := strconv.Atoi(f[2]); err == nil && (f[0] == uid || f[0] == name) {
				count += n
			}
		}
		switch {
		case count > 0:
			return yes(strconv.Itoa(count) + " ids")
		case uid != "0":
			return no(path + " has no line for " + name)
		case users == 0:
			return no(path + " has no line")
		}
		return yes(strconv.Itoa(users) + " lines")
	}
}

// userName is the name of a user, or its number where /etc/passwd has none.
func userName(uid string) string {
	b, _ := os.ReadFile("/etc/passwd")
	for l := range strings.Lines(string(b)) {
		if f := strings.Split(l, ":"); len(f) > 2 && f[2] == uid {
			return f[0]
		}
	}
	return uid
}

// newuidmap looks whether the programs can do what they are for: by being set-user-id, or
// by file capabilities.
func newuidmap(*host) finding {
	for _, name := range []string{"newuidmap", "newgidmap"} {
		path, err := exec.LookPath(name)
		if err != nil {
			return no(name + " is not installed")
		}
		st, err := os.Stat(path)
		if err != nil {
			return unknown(words(err))
		}
		n, err := unix.Getxattr(path, "security.capability", nil)
		if st.Mode()&os.ModeSetuid == 0 && (err != nil || n == 0) {
			return no(path + " is neither set-user-id nor has it capabilities")
		}
	}
	return yes("")
}

func lingering(*host) finding {
	name := userName(strconv.Itoa(os.Getuid()))
	if _, err := os.Stat("/var/lib/systemd/linger/" + name); err != nil {
		if os.IsNotExist(err) {
			return no("not enabled for " + name)
		}
		return unknown(words(err))
	}
	return yes("")
}

func runtimeDir(*host) finding {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		return no("not set")
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return no(dir + ": " + words(err))
	}
	if int(st.Uid) != os.Getuid() || st.Mode&0o077 != 0 {
		return no(dir + " is not this user's alone")
	}
	return yes(dir)
}
