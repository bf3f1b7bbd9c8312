// Package execute executes plugins of the Container Network Interface: it is what corten-cni does, and
// alone links the library for it.
package execute

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/wiring"
)

// Do does a task.
func Do(t cni.Task) cni.Done {
	ctx, cancel := context.WithTimeout(context.Background(), t.Timeout)
	defer cancel()
	d, err := do(ctx, t)
	if err == nil {
		return d
	}
	p := errs.PartsOf(err)
	return cni.Done{Failure: &p}
}

func do(ctx context.Context, t cni.Task) (cni.Done, error) {
	if t.Link.Plugins == nil {
		return cni.Done{}, errs.Newf(errs.Invalid, "execute plugins of", t.Link.Network, "no plugins make it")
	}
	list, err := libcni.NetworkConfFromBytes(t.Link.Plugins.Config)
	if err != nil {
		return cni.Done{}, errs.New(errs.Corrupt, "read configuration", t.Link.Plugins.File, err)
	}
	run := &runner{file: t.Link.Plugins.File, verb: t.Verb}
	lib := libcni.NewCNIConfigWithCacheDir(t.Link.Plugins.Path, t.Cache, run)
	rt := &libcni.RuntimeConf{
		ContainerID:    string(t.ID),
		NetNS:          t.Namespace,
		IfName:         t.Link.Interface,
		Args:           [][2]string{{"IgnoreUnknown", "1"}},
		CapabilityArgs: capabilities(t),
	}
	if t.Verb == cni.Del {
		return cni.Done{}, run.explain(ctx, lib.DelNetworkList(ctx, list, rt))
	}
	result, err := lib.AddNetworkList(ctx, list, rt)
	if err != nil {
		return cni.Done{}, run.explain(ctx, err)
	}
	r, err := types100.NewResultFromResult(result)
	if err != nil {
		return cni.Done{}, errs.Wrap("read what plugins answer for", t.Link.Network, err)
	}
	return learn(r, t.Link.Interface), nil
}

// capabilities is what plugins are told if they say that they can do it.
func capabilities(t cni.Task) map[string]any {
	p := t.Link.Plugins
	args := map[string]any{cni.CanPorts: portMappings(t.Ports)}
	if len(p.IPs) > 0 {
		args[cni.CanIPs] = p.IPs
	}
	if p.MAC != "" {
		args[cni.CanMAC] = p.MAC
	}
	if len(t.Link.Names) > 0 {
		args[cni.CanAliases] = map[string][]string{strings.TrimPrefix(t.Link.Network, "cni:"): t.Link.Names}
	}
	if len(t.DNS) > 0 {
		args[cni.CanDNS] = map[string]any{"servers": t.DNS}
	}
	if r := t.Link.Rate; r.In > 0 || r.Out > 0 {
		bandwidth := map[string]uint64{} // ingress is to the container; all in bits
		set := func(what string, rate uint64) {
			if rate > 0 {
				bandwidth[what+"Rate"], bandwidth[what+"Burst"] = rate, burst(r.Burst, rate)
			}
		}
		set("ingress", r.In)
		set("egress", r.Out)
		args[cni.CanBandwidth] = bandwidth
	}
	return args
}

// burst is what may pass at once, in bits, which the plugin has no default for: as much as Corten's own networks let
// pass, 20 ms and at least 64 KiB.
func burst(said, rate uint64) uint64 {
	if said == 0 {
		said = max(rate/8/50, 64<<10)
	}
	return said * 8
}

type portMapping struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// portMappings says every address of both families once, by none.
func portMappings(ports []wiring.Forward) []portMapping {
	out := []portMapping{}
	said := map[portMapping]bool{}
	for _, f := range ports {
		m := portMapping{f.HostPort, f.Port, string(f.Protocol), ""}
		if !f.HostIP.IsUnspecified() {
			m.HostIP = f.HostIP.String()
		}
		if !said[m] {
			said[m], out = true, append(out, m)
		}
	}
	return out
}

// learn takes from a result what is of the container's interface.
func learn(r *types100.Result, name string) cni.Done {
	var d cni.Done
	ours := -1
	for i, f := range r.Interfaces {
		if f.Name == name && f.Sandbox != "" {
			ours, d.MAC = i, f.Mac
		}
	}
	for _, ip := range r.IPs {
		if ip.Interface != nil && ours >= 0 && *ip.Interface != ours {
			continue
		}
		bits, _ := ip.Address.Mask.Size()
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			d.Addresses = append(d.Addresses, netip.PrefixFrom(a.Unmap(), bits))
		}
	}
	for _, route := range r.Routes {
		if ones, _ := route.Dst.Mask.Size(); ones != 0 {
			continue
		}
		if g, ok := gateway(r, route); ok {
			d.Gateways = append(d.Gateways, g)
		}
	}
	for _, s := range r.DNS.Nameservers {
		if a, err := netip.ParseAddr(s); err == nil {
			d.DNS = append(d.DNS, a)
		}
	}
	return d
}

// gateway is that of a default route: its own, or that of the addresses of its family.
func gateway(r *types100.Result, route *types.Route) (netip.Addr, bool) {
	if a, ok := netip.AddrFromSlice(route.GW); ok {
		return a.Unmap(), true
	}
	for _, ip := range r.IPs {
		if a, ok := netip.AddrFromSlice(ip.Gateway); ok && (a.Unmap().Is4() == (len(route.Dst.Mask) == net.IPv4len)) {
			return a.Unmap(), true
		}
	}
	return netip.Addr{}, false
}

// runner executes one plugin after the other, and remembers which one it was: its error does not say so.
type runner struct {
	version.PluginDecoder
	file string
	verb cni.Verb
	path string
}

// FindInPath is part of invoke.Exec.
func (r *runner) FindInPath(plugin string, folders []string) (string, error) {
	path, err := invoke.FindInPath(plugin, folders)
	if err != nil {
		return "", errs.Newf(errs.NotFound, "find plugin", plugin, r.file+" names it, and it is in none of "+strings.Join(folders, ", ")).
			WithHint("install it (Debian: containernetworking-plugins), or name its folder in CORTEN_CNI_BIN")
	}
	r.path = path
	return path, nil
}

// ExecPlugin is part of invoke.Exec. A plugin dies with us: nobody else waits for it, and our lock on the container ends.
// What it starts, such as its IPAM plugin, is in its process group and ends with it when its time is over.
func (r *runner) ExecPlugin(ctx context.Context, path string, input []byte, env []string) ([]byte, error) {
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, bytes.NewReader(input), &out, &complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 100 * time.Millisecond // something that it has started may have its output open for ever
	err := cmd.Run()
	if err == nil {
		return out.Bytes(), nil
	}
	var said types.Error
	if json.Unmarshal(out.Bytes(), &said) == nil && said.Msg != "" {
		return nil, &said
	}
	text := strings.TrimSpace(complaint.String() + " " + out.String())
	if text == "" {
		return nil, err
	}
	return nil, errors.New(err.Error() + ", and says: " + text)
}

// explain says which plugin failed, at what, and what may help.
func (r *runner) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var ours *errs.Error
	if errors.As(err, &ours) { // a plugin is missing
		return ours
	}
	op := "connect by plugin"
	if r.verb == cni.Del {
		op = "disconnect by plugin"
	}
	if ctx.Err() != nil {
		return errs.Newf(errs.Unavailable, op, r.path, "it was not done in time").WithHint("see what it waits for; " + r.file + " configures it")
	}
	var said *types.Error
	switch {
	case errors.As(err, &said):
		kind, hint := meaning(said.Code, r.file)
		return errs.Newf(kind, op, r.path, said.Error()+code(said.Code)).WithHint(hint)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC):
		return errs.Wrap(op, r.path, errs.Newf(errs.Invalid, "", "", "it is no program that can be executed").WithHint("install it anew"))
	case r.path == "":
		return errs.Wrap(op, r.file, err)
	}
	return errs.Newf(errs.Unavailable, op, r.path, innermost(err).Error()).WithHint("look at its section of " + r.file + ", and whether the program is whole: " + filepath.Base(r.path) + " should answer when it is called by hand with CNI_COMMAND=VERSION")
}

func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil || os.IsNotExist(next) {
			return err
		}
		err = next
	}
}

func code(n uint) string {
	text := map[uint]string{
		types.ErrIncompatibleCNIVersion: "version of the interface", types.ErrUnsupportedField: "unsupported field", types.ErrUnknownContainer: "unknown container",
		types.ErrInvalidEnvironmentVariables: "environment", types.ErrIOFailure: "input or output", types.ErrDecodingFailure: "decoding",
		types.ErrInvalidNetworkConfig: "configuration", types.ErrTryAgainLater: "try again later",
	}[n]
	switch {
	case n == types.ErrUnknown:
		return ""
	case text == "":
		return " (CNI error " + decimal(n) + ")"
	}
	return " (CNI error " + decimal(n) + ", " + text + ")"
}

// meaning is the kind of an error by its code in the specification, and what the user can do.
func meaning(code uint, file string) (errs.Kind, string) {
	switch code {
	case types.ErrIncompatibleCNIVersion:
		return errs.Unsupported, "have cniVersion in " + file + " be one that the plugin knows, or install a newer plugin"
	case types.ErrUnsupportedField, types.ErrDecodingFailure, types.ErrInvalidNetworkConfig:
		return errs.Invalid, "correct its section of " + file
	case types.ErrTryAgainLater:
		return errs.Busy, "try again in a while"
	}
	return errs.Unavailable, "its section of " + file + " says what it was to do"
}

func decimal(n uint) string { return strconv.FormatUint(uint64(n), 10) }
