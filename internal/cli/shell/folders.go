package shell

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Engine opens the engine on the folders that flags, environment or the user's rights name.
func (s *Shell) Engine() (*engine.Engine, error) {
	cfg, err := s.Folders()
	if err != nil {
		return nil, err
	}
	cfg.Supplier = s.Supplier
	cfg.Notify, _ = s.LookupEnv("NOTIFY_SOCKET")
	return engine.Open(cfg)
}

// Folders are /var/lib/corten and /run/corten for root, and for others the folders that the
// XDG base directory specification gives a program.
func (s *Shell) Folders() (engine.Config, error) {
	root, err := s.folder("--root", s.Root, "CORTEN_ROOT", "/var/lib/corten", s.dataHome)
	if err != nil {
		return engine.Config{}, err
	}
	run, err := s.folder("--run", s.Run, "CORTEN_RUN", "/run/corten", s.runtimeDir)
	return engine.Config{Root: root, Run: run}, err
}

func (s *Shell) folder(flag, value, variable, system string, own func() (string, error)) (string, error) {
	if value == "" {
		value, _ = s.LookupEnv(variable)
	}
	if value != "" {
		abs, err := filepath.Abs(value)
		return abs, errs.Wrap(flag, value, err)
	}
	if s.UID == 0 {
		return system, nil
	}
	return own()
}

func (s *Shell) dataHome() (string, error) {
	if dir, _ := s.LookupEnv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "corten"), nil
	}
	home, _ := s.LookupEnv("HOME")
	if !filepath.IsAbs(home) {
		return "", errs.New(errs.Invalid, "find the folder for state", "", errors.New("HOME is not set")).
			WithHint("set HOME or XDG_DATA_HOME, or name a folder with --root")
	}
	return filepath.Join(home, ".local/share/corten"), nil
}

func (s *Shell) runtimeDir() (string, error) {
	dir, _ := s.LookupEnv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(dir) {
		dir = "/run/user/" + strconv.Itoa(s.UID) // where systemd makes it
		if _, err := os.Stat(dir); err != nil {
			return "", errs.New(errs.Invalid, "find the folder for running containers", "", errors.New("XDG_RUNTIME_DIR is not set")).
				WithHint("log in through a session that sets it, or name a folder of yours with --run")
		}
	}
	return filepath.Join(dir, "corten"), nil
}
