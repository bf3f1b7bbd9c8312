// Package cni connects containers by plugins of the Container Network Interface, for hosts that have them.
//
// A network cni:NAME is a file of the host's administrator, which says what programs make it. It is
// read when a container starts; the document of the container (package wiring) then has all of it, so that
// nobody reads it again. corten-net has the plugins executed by corten-cni (Run), which is a program of
// its own: it has the library, and nobody else waits for that to be loaded. What they could not undo is
// kept in a record, and tried again (Leftovers).
package cni

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
)

// prefix begins the names of networks that plugins make.
const prefix = "cni:"

// Is reports whether a network's name is of one that plugins make.
func Is(network string) bool { return strings.HasPrefix(network, prefix) }

// Where is the folders that are looked into.
type Where struct {
	Configs  string   // with configurations
	Programs []string // with plugins, the first one first
}

// The variables that name other folders.
const (
	confVariable = "CORTEN_CNI_CONF"
	binVariable  = "CORTEN_CNI_BIN" // a list, as in PATH
)

// Environ is those variables as they are set, for who starts containers for us.
func Environ() []string {
	var out []string
	for _, name := range []string{confVariable, binVariable} {
		if value := os.Getenv(name); value != "" {
			out = append(out, name+"="+value)
		}
	}
	return out
}

// Here is this host's: what others use as well, unless the environment names other folders.
func Here() Where {
	w := Where{"/etc/cni/net.d", []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"}}
	if dir := os.Getenv(confVariable); dir != "" {
		w.Configs = dir
	}
	if list := os.Getenv(binVariable); list != "" {
		w.Programs = filepath.SplitList(list)
	}
	return w
}

// Config is a network: a list of plugins, to be executed in its order.
type Config struct {
	Name    string
	File    string
	Plugins []Plugin
	text    json.RawMessage // always a list
}

// Plugin is one of a list, as far as it matters what it says.
type Plugin struct {
	Type         string          `json:"type"` // the program's name
	Capabilities map[string]bool `json:"capabilities"`
	IPAM         struct {
		Type string `json:"type"`
	} `json:"ipam"`
}

// List reads all networks, in the order of files' names. What cannot be read is told in the error, beside the
// others. Of two of one name the first counts, as everywhere with CNI.
func (w Where) List() ([]Config, error) {
	entries, err := os.ReadDir(w.Configs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap("list networks in", w.Configs, err)
	}
	var out []Config
	var failed []error
	for _, e := range entries {
		if !slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) {
			continue
		}
		c, err := read(filepath.Join(w.Configs, e.Name()))
		switch {
		case err != nil:
			failed = append(failed, err)
		case !slices.ContainsFunc(out, func(o Config) bool { return o.Name == c.Name }):
			out = append(out, c)
		}
	}
	return out, errors.Join(failed...)
}

// Find finds a network, by its name with the prefix.
func (w Where) Find(network string) (Config, error) {
	name := strings.TrimPrefix(network, prefix)
	all, err := w.List()
	if i := slices.IndexFunc(all, func(c Config) bool { return c.Name == name }); i >= 0 {
		return all[i], nil
	}
	if err != nil { // it may be in the file that cannot be read
		return Config{}, err
	}
	return Config{}, errs.Newf(errs.NotFound, "find network", network, "no file in "+w.Configs+" says that its name is "+name).
		WithHint("corten network ls lists those that are there; CORTEN_CNI_CONF names another folder")
}

func read(path string) (Config, error) {
	b, err := disk.Read(path)
	if err != nil {
		return Config{}, errs.Wrap("read", path, err)
	}
	c, err := parse(b)
	if err != nil {
		return c, errs.New(errs.Corrupt, "read configuration", path, err).
			WithHint("it should be a network configuration list of CNI; correct it, or move it away")
	}
	c.File = path
	return c, nil
}

// parse reads a list of plugins, or the configuration of a single one.
func parse(b []byte) (Config, error) {
	var doc struct {
		Name    string
		Version string `json:"cniVersion"`
		Plugins []Plugin
		Plugin
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return Config{}, err
	}
	c := Config{Name: doc.Name, Plugins: doc.Plugins, text: b}
	if len(c.Plugins) == 0 && doc.Type != "" {
		var err error
		c.Plugins = []Plugin{doc.Plugin}
		if c.text, err = json.Marshal(map[string]any{"cniVersion": doc.Version, "name": doc.Name, "plugins": []json.RawMessage{b}}); err != nil {
			return c, err
		}
	}
	if c.Name == "" || len(c.Plugins) == 0 {
		return c, errors.New("it has no name, or no plugins")
	}
	for _, p := range c.Plugins {
		for _, name := range []string{p.Type, p.IPAM.Type} {
			if p.Type == "" || strings.ContainsAny(name, "/\\") || name == ".." {
				return c, errors.New("a plugin has no type that is a program's name")
			}
		}
	}
	return c, nil
}

// Network is the network's name where others are named too.
func (c Config) Network() string { return prefix + c.Name }

// IDOf is the id of a network: 64 hexadecimal digits, as others have them, made from its name.
func IDOf(network string) string {
	sum := sha256.Sum256([]byte(network))
	return hex.EncodeToString(sum[:])
}

// Can reports whether a plugin of the list takes what it is told of a capability.
func (c Config) Can(capability string) bool {
	return slices.ContainsFunc(c.Plugins, func(p Plugin) bool { return p.Capabilities[capability] })
}

// Types is the names of the plugins.
func (c Config) Types() []string {
	var out []string
	for _, p := range c.Plugins {
		out = append(out, p.Type)
	}
	return out
}

// programs reports a plugin that is not there.
func (c Config) programs(folders []string) error {
	for _, p := range c.Plugins {
		for _, name := range []string{p.Type, p.IPAM.Type} {
			there := func(dir string) bool {
				st, err := os.Stat(filepath.Join(dir, name))
				return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
			}
			if name != "" && !slices.ContainsFunc(folders, there) {
				return errs.Newf(errs.NotFound, "find plugin", name, c.File+" names it, and it is in none of "+strings.Join(folders, ", ")).
					WithHint("install it (Debian: containernetworking-plugins), or name its folder in CORTEN_CNI_BIN")
			}
		}
	}
	return nil
}
