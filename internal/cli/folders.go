package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// engine opens the engine on the folders that flags, environment or the user's rights name.
func (a *app) engine() (*engine.Engine, error) {
	cfg, err := a.folders()
	if err != nil {
		return nil, err
	}
	cfg.Supplier = a.env.Supplier
	return engine.Open(cfg)
}

// folders are /var/lib/corten and /run/corten for root, and for others the folders that the
// XDG base directory specification gives a program.
func (a *app) folders() (engine.Config, error) {
	root, err := a.folder("--root", a.root, "CORTEN_ROOT", "/var/lib/corten", a.dataHome)
	if err != nil {
		return engine.Config{}, err
	}
	run, err := a.folder("--run", a.run, "CORTEN_RUN", "/run/corten", a.runtimeDir)
	return engine.Config{Root: root, Run: run}, err
}

func (a *app) folder(flag, value, variable, system string, own func() (string, error)) (string, error) {
	if value == "" {
		value, _ = a.env.LookupEnv(variable)
	}
	if value != "" {
		abs, err := filepath.Abs(value)
		return abs, errs.Wrap(flag, value, err)
	}
	if a.env.UID == 0 {
		return system, nil
	}
	return own()
}

func (a *app) dataHome() (string, error) {
	if dir, _ := a.env.LookupEnv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "corten"), nil
	}
	home, _ := a.env.LookupEnv("HOME")
	if !filepath.IsAbs(home) {
		return "", errs.New(errs.Invalid, "find the folder for state", "", errors.New("HOME is not set")).
			WithHint("set HOME or XDG_DATA_HOME, or name a folder with --root")
	}
	return filepath.Join(home, ".local/share/corten"), nil
}

func (a *app) runtimeDir() (string, error) {
	dir, _ := a.env.LookupEnv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(dir) {
		dir = "/run/user/" + strconv.Itoa(a.env.UID) // where systemd makes it
		if _, err := os.Stat(dir); err != nil {
			return "", errs.New(errs.Invalid, "find the folder for running containers", "", errors.New("XDG_RUNTIME_DIR is not set")).
				WithHint("log in through a session that sets it, or name a folder of yours with --run")
		}
	}
	return filepath.Join(dir, "corten"), nil
}
