// Command corten-init is PID 1 of a container: it starts the command, passes signals on to
// it, reaps whatever is orphaned, and ends with the command's exit status, on which the
// kernel ends the rest of the container.
//
// It runs without the Go runtime. Its entry point (entry_*.s, chosen by the linker flag -E)
// calls run below, which may do only what needs no runtime: no allocation, no goroutine, no
// growing stack, no panic that anybody would print. What that buys is in SPECIFICATION.md:
// a container starts a millisecond sooner and its PID 1 takes some tens of kilobytes.
//
// It runs inside, as the container's user, and must not be a way in: it makes itself
// undumpable, so that nobody inside can trace it or read its memory, and it is installed
// unreadable for others, which has the kernel refuse the same (would_dump in fs/exec.c).
package main

// main is never reached: the program begins at entry. A build without the linker flag ends
// here, and says so by its status.
func main() { panic("corten-init was built without -ldflags=-E=main.entry") }
