// Go's runtime looks after the number of processors by itself: here it is always one.
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command corten-cni has plugins of the Container Network Interface executed for corten-net: package
// cni/execute says how. It reads a task from its standard input and writes what became of it to its standard
// output, both JSON (package cni). Descriptor 3 is a lock that it holds until its plugins are done.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/cni/execute"
)

const lockFD = 3

func main() {
	// Plugins do not have the lock: one that leaves a daemon behind would hold it for ever.
	syscall.CloseOnExec(lockFD)
	runtime.LockOSThread() // plugins die with the thread that has started them
	var t cni.Task
	err := json.NewDecoder(os.Stdin).Decode(&t)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(execute.Do(t))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "corten-cni: error:", err)
		os.Exit(1)
	}
}
