package shell

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
)

// Engine opens the engine on the folders that flags, environment or the user's rights name.
func (s *Shell) Engine() (*engine.Engine, error) {
	if s.Refused != nil {
		return nil, s.Refused
	}
	if nest.Entered() && nest.Single() {
		s.Say("warning: there are no other ids than yours here, so containers have one user and one group: corten doctor says how to get more")
	}
	cfg, err := s.Folders()
	if err == nil {
		err = s.secure(cfg.Run)
	}
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

// runtimeDir is what a session has, or for users without one a folder in /tmp.
func (s *Shell) runtimeDir() (string, error) {
	if dir := s.variable("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "corten"), nil
	}
	dir := "/run/user/" + strconv.Itoa(s.UID) // where systemd makes it
	if _, err := os.Stat(dir); err == nil {
		return filepath.Join(dir, "corten"), nil
	}
	return s.shared(), nil
}

// shared is a folder in /tmp, which has to be this user's alone.
func (s *Shell) shared() string { return "/tmp/corten-run-" + strconv.Itoa(s.UID) }

// secure makes the folder in /tmp, if it is the one that is used. Others may have made one of that name.
func (s *Shell) secure(dir string) error {
	if dir != s.shared() || s.UID == 0 {
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return errs.Wrap("make the folder for running containers", dir, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil || int(st.Uid) != os.Getuid() || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o077 != 0 {
		return errs.New(errs.Denied, "use the folder for running containers", dir, err).
			WithHint("it has to be a folder of yours that is closed to others: remove it, or name another with --run")
	}
	return nil
}

func (s *Shell) variable(name string) string {
	v, _ := s.LookupEnv(name)
	return v
}
