package kept

import (
	"os"
	"strconv"

	"github.com/cortenhq/corten/internal/keeper"
	"github.com/cortenhq/corten/internal/spec"
)

// announce makes this process, which is about to be the keeper, the service's main one. The
// manager has to know before the one that it has started may end.
func announce(notify string, c *spec.Container) {
	o := notifyOrders(notify, c)
	s := "MAINPID=" + strconv.Itoa(os.Getpid())
	switch o.Mode {
	case "":
		return
	case string(spec.NotifyKeeper):
		s += "\nREADY=1"
	}
	keeper.Notify(o.Socket, s)
}

// notifyOrders is what the keeper has to know of the service manager; notify is its socket.
func notifyOrders(notify string, c *spec.Container) keeper.NotifyOrders {
	if c.Life.Notify == spec.NotifyIgnore || notify == "" {
		return keeper.NotifyOrders{}
	}
	return keeper.NotifyOrders{Mode: string(c.Life.Notify), Socket: notify}
}
