// Go's runtime looks after the number of processors by itself: here it is always one.
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command corten-keeper stays with one container that lives on by itself: package keeper
// says how.
//
//	corten-keeper ROOT RUN ID        keeps the container
//	corten-keeper rest ROOT RUN ID   waits until it is to be started again
//
// Nobody calls it by hand: it executes in the place of corten, with the container's lock as
// descriptor 3.
package main

import (
	"os"

	"github.com/cortenhq/corten/internal/keeper"
)

func main() {
	args := os.Args[1:]
	switch {
	case len(args) == 3:
		_ = keeper.Keep(args[0], args[1], args[2], args)
	case len(args) == 4 && args[0] == "rest":
		_ = keeper.Rest(args[1], args[2], args[3], args)
	default:
		_, _ = os.Stderr.WriteString("corten-keeper: error: it is started by corten run -d\n")
		os.Exit(2)
	}
	os.Exit(1)
}
