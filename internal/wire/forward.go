package wire

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/wiring"
)

// Settings are what was changed on the host, and how it was: RUN/net/host. It is written before
// anything of it is done, and removed after all of it was undone.
type Settings struct {
	Version  int      `json:"version"`
	Forward4 bool     `json:"forward4,omitempty"` // it did not forward packets of IPv4
	Forward6 bool     `json:"forward6,omitempty"`
	AcceptRA []string `json:"acceptRA,omitempty"` // interfaces whose accept_ra was 1: a host that forwards needs 2
	Quiet    []string `json:"quiet,omitempty"`    // the interfaces that were there then
}

const settingsVersion = 1

const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
)

// LoadSettings reads what was changed; nothing, if the file is not there.
func LoadSettings(file string) (Settings, error) {
	var s Settings
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err == nil && s.Version > settingsVersion {
		err = errs.Newf(errs.Unsupported, "read", file, "a newer Corten wrote it").WithHint("use that version, or a newer one")
	}
	return s, errs.Wrap("read", file, err)
}

// Forwarding makes the host forward packets, if it does not, and returns what has been changed for
// that, now or before. changed says whether it was now. The caller has the lock of RUN/net.
func (h *Host) Forwarding(file string, documents func() ([]*wiring.Document, error)) (s Settings, changed bool, err error) {
	if s, err = LoadSettings(file); err != nil {
		return s, false, err
	}
	no4, no6 := setting(forward4) == "0", HasIPv6() && setting(forward6) == "0"
	if !no4 && !no6 {
		return s, false, nil
	}
	all, err := documents()
	if err != nil {
		return s, false, err
	}
	if s.Quiet, err = h.others(all); err != nil {
		return s, false, err
	}
	s.Version, s.Forward4, s.Forward6 = settingsVersion, s.Forward4 || no4, s.Forward6 || no6
	if no6 {
		for _, name := range s.Quiet {
			if setting("net/ipv6/conf/"+name+"/accept_ra") == "1" && !slices.Contains(s.AcceptRA, name) {
				s.AcceptRA = append(s.AcceptRA, name)
			}
		}
	}
	b, _ := json.Marshal(s)
	if err = os.WriteFile(file+".new", b, 0o600); err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		_ = os.Remove(file + ".new")
		return s, false, errs.Wrap("write", file, err)
	}
	if no4 {
		err = set(forward4, "1")
	}
	if no6 {
		for _, name := range s.AcceptRA {
			_ = set("net/ipv6/conf/"+name+"/accept_ra", "2") // it may be gone
		}
		err = errors.Join(err, set(forward6, "1"))
	}
	return s, true, err
}

// Restore puts the host's settings back. Forwarding stays if an interface has come since that is not
// ours: it may need it. The caller has the lock of RUN/net.
func (h *Host) Restore(file string, documents []*wiring.Document) error {
	_ = os.Remove(file + ".new") // of somebody who was killed
	s, err := LoadSettings(file)
	if err != nil || s.Version == 0 {
		return err
	}
	now, err := h.others(documents)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(now, func(name string) bool { return !slices.Contains(s.Quiet, name) }) {
		if s.Forward4 {
			err = set(forward4, "0")
		}
		if s.Forward6 {
			err = errors.Join(err, set(forward6, "0"))
			for _, name := range s.AcceptRA {
				if setting("net/ipv6/conf/"+name+"/accept_ra") == "2" {
					_ = set("net/ipv6/conf/"+name+"/accept_ra", "1")
				}
			}
		}
	}
	if err != nil {
		return err
	}
	return errs.Wrap("remove", file, os.Remove(file))
}

// others are the interfaces of the host that are not ours, but for lo.
func (h *Host) others(documents []*wiring.Document) ([]string, error) {
	links, err := whole(h.links.LinkList)
	if err != nil {
		return nil, errs.Wrap("list", "interfaces", err)
	}
	named, ours, out := owned(documents), map[int]bool{}, []string{}
	for _, l := range links {
		a := l.Attrs()
		ours[a.Index] = h.made(l, named)
	}
	for _, l := range links {
		a := l.Attrs()
		if a.Name != "lo" && !ours[a.Index] && !ours[a.MasterIndex] {
			out = append(out, a.Name)
		}
	}
	return out, nil
}
