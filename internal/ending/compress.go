package ending

import (
	"os/exec"
	"syscall"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
)

// CompressLog has the older files of the log of a container that stays compressed, if they are not.
// While it ran its keeper saw to that, but the last of them may have come just before the end.
// Another process does it, since nobody is to wait for it; if it is killed, the next keeper of
// the container does it.
func CompressLog(dirs container.Dirs, c *spec.Container) {
	folder := container.LogDir(dirs, c.ID)
	if c.Life.Remove || c.Life.Log.Uncompressed || !logs.Compressible(folder) {
		return
	}
	cmd := exec.Command(programs.Corten(), "--root", dirs.Root, "--run", dirs.Run, "keep", "compress", folder)
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if cmd.Start() == nil {
		_ = cmd.Process.Release()
	}
}
