// Go's runtime looks after the number of processors by itself: here it is always one.
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command corten-net connects containers to networks: package connect says how.
//
//	corten-net MODE ROOT RUN [ID]
//	corten-net move
//
// The mode move is for containers of bundles: it moves interfaces that are listed on its stdin into the network
// namespace that is open as descriptor 3, and says on its stdout what kept it from that. Of the others
// MODE is tend, up, down, restore, prune, change, proxy, unplug or look; the last two, restore and prune are of no container. Descriptor 3 is a socket to
// who started it, of packets. By hand only down, restore, prune and look are of use, and need none.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/cortenhq/corten/internal/connect"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
)

const (
	peerFD = 3
	boxFD  = 4
)

func main() {
	args := os.Args[1:]
	if len(args) == 1 && args[0] == "move" {
		if connect.Move(os.NewFile(peerFD, "namespace"), os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
		return
	}
	if len(args) < 3 || len(args) > 4 || (len(args) == 3) != (args[0] == "restore" || args[0] == "prune" || args[0] == "unplug" || args[0] == "look") {
		fmt.Fprintln(os.Stderr, "corten-net: error: usage: corten-net tend|up|down|restore|prune|change|proxy|unplug|look ROOT RUN [ID] | move")
		os.Exit(2)
	}
	// Who started us ends it by the socket; what the terminal sends is for the container.
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTERM)
	r := connect.Request{Mode: args[0], Dirs: network.Dirs{Root: args[1], Run: args[2]}, FD: peerFD, Box: boxFD}
	if len(args) == 4 {
		r.ID = spec.ContainerID(args[3])
	}
	if err := connect.Do(r); err != nil {
		fmt.Fprintln(os.Stderr, "corten-net: error:", err)
		os.Exit(1)
	}
}
