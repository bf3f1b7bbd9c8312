package values

import (
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/spec"
)

// DefaultKeys are ctrl-p and ctrl-q.
const DefaultKeys = "\x10\x11"

// Keys reads --detach-keys, "ctrl-p,ctrl-q", to the bytes that a terminal sends for
// them; an empty text is DefaultKeys.
func Keys(s string) (string, error) {
	if s == "" {
		return DefaultKeys, nil
	}
	var keys strings.Builder
	for k := range strings.SplitSeq(s, ",") {
		name, ctrl := strings.CutPrefix(strings.ToLower(k), "ctrl-")
		switch {
		case ctrl && len(name) == 1 && (name[0] >= 'a' && name[0] <= 'z' || strings.Contains(`@[\]^_`, name)):
			keys.WriteByte(name[0] & 0x1f)
		case len(k) == 1 && k[0] > ' ' && k[0] < 0x7f:
			keys.WriteByte(k[0])
		default:
			return "", Bad("detach-keys", s, "not keys", `write letters and ctrl- with a letter or one of @ [ \ ] ^ _, with commas between: ctrl-p,ctrl-q`)
		}
	}
	return keys.String(), nil
}

// Restart reads --restart.
func Restart(s string) (spec.Restart, error) {
	name, times, counted := strings.Cut(s, ":")
	var r spec.Restart
	switch p := spec.RestartPolicy(name); {
	case name == "" && !counted, name == "no":
	case p == spec.RestartOnFailure, p == spec.RestartAlways, p == spec.RestartUnlessStopped:
		r.Policy = p
	default:
		return r, Bad("restart", s, "no such policy", "write no, on-failure, on-failure:5, always or unless-stopped")
	}
	if !counted {
		return r, nil
	}
	if r.Policy != spec.RestartOnFailure {
		return r, Bad("restart", s, "only on-failure counts how often", "write "+name+", or on-failure:"+times)
	}
	if times == "" {
		return r, Bad("restart", s, "the number is missing", "write on-failure:5, or on-failure to go on without end")
	}
	n, err := Int("restart", times, 0, math.MaxInt32)
	r.Max = int(n)
	return r, err
}

// Signal brings a signal, the value of a flag, to the form SIGTERM. As for Docker it may be written without
// SIG, in small letters, or as a number.
func Signal(flag, s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if n, err := Int(flag, s, 1, 64); err == nil {
		if name := unix.SignalName(unix.Signal(n)); name != "" {
			return name, nil
		}
		return s, nil // a real-time signal, which has a number only
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if engine.SignalOf(name) == 0 {
		return "", Bad(flag, s, "no such signal", "kill -l lists them; a number from 1 to 64 works too")
	}
	return name, nil
}
