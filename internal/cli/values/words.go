package values

import (
	"strings"

	"github.com/cortenhq/corten/internal/plan"
)

// Words is what may follow a flag if that is one of a few words, for a shell to complete;
// one that ends in "=" or ":" goes on.
func Words(flag string) []string {
	switch flag {
	case "plan":
		return []string{"words", "json"}
	case "pull":
		return []string{"always", "missing", "never"}
	case "attach":
		return []string{"STDOUT", "STDERR"}
	case "restart":
		return []string{"no", "on-failure", "on-failure:", "always", "unless-stopped"}
	case "health-on-failure":
		return []string{"none", "kill", "restart", "stop"}
	case "log-driver":
		return []string{"cri", "none"}
	case "log-opt":
		return []string{"max-size=", "max-file=", "compress=", "mode=blocking", "mode=non-blocking", "max-buffer-size="}
	case "systemd":
		return []string{"auto", "always", "false"}
	case "sdnotify":
		return []string{"container", "keeper", "ignore"}
	case "network":
		return []string{"bridge", "none", "host", "container:", "ns:"}
	case "network-opt":
		return []string{"rate-in=", "rate-out=", "burst="}
	case "userns":
		return []string{"auto", "keep-id", "map:", "host"}
	case "pid", "uts", "cgroupns":
		return []string{"private", "host"}
	case "ipc":
		return []string{"private", "shareable", "host", "none"}
	case "time-offset":
		return []string{"boottime=", "monotonic="}
	case "mount":
		return []string{"type=bind,source=", "type=volume,source=", "type=tmpfs,target="}
	case "security-opt":
		return []string{"seccomp=", "seccomp=unconfined", "no-new-privileges=false", "apparmor=", "label=", "mask=", "unmask=", "systempaths=unconfined"}
	case "cap-add", "cap-drop":
		names := []string{"ALL"}
		for _, c := range plan.AllCaps() {
			names = append(names, strings.TrimPrefix(c, "CAP_"))
		}
		return names
	}
	return nil
}
