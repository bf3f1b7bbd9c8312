package kept

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/keeper"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
)

// Reload has the keeper of a container execute the program that is installed now, if that is
// another one, and reports whether it was. The container does not notice: the keeper stays the
// same process and its parent (Linux execve(2)).
func Reload(dirs container.Dirs, id spec.ContainerID) (bool, error) {
	program, err := programs.Find("corten-keeper")
	if err != nil {
		return false, err
	}
	now, err := os.Stat(program)
	if err != nil {
		return false, err
	}
	old, err := os.Stat("/proc/" + strconv.Itoa(awaitKeeper(dirs, id)) + "/exe")
	if err != nil || os.SameFile(now, old) {
		return false, nil // gone, or as it should be
	}
	dir := container.KeepDir(dirs, id)
	o, err := keeper.ReadOrders(dir)
	if err != nil {
		return false, err
	}
	o.Corten, o.Keeper = programs.Corten(), program
	if err := o.Write(dir); err != nil {
		return false, err
	}
	SignalKeeper(dirs, id, unix.SIGUSR2) // read the orders again
	SignalKeeper(dirs, id, unix.SIGHUP)
	return true, nil
}
