// Command corten-init is PID 1 of a container: it passes signals on to the command, which the
// launcher has started as its child, reaps whatever is orphaned, and ends with the command's
// exit status, on which the kernel ends the rest of the container.
//
// It is executed with every signal blocked and with these descriptors, where N is what
// follows the colon if its first argument is "corten-init:N", and else 0:
//
//	0, 1, 2     the command's stdin, stdout and stderr
//	3 to 2+N    nothing: in the command, what its user passes to it
//	3+N         the report, a pipe or a file: one byte, the command's exit status (0-255,
//	            128+signal), written when it has ended and before corten-init does
//	4+N, 5+N    guards, or nothing: the read ends of the pipes at the command's stdout and
//	            stderr, or at 4+N the master of its terminal. They are held open, so that no
//	            write fails while nobody outside reads
//	6+N         the gate, or nothing: a socket to the process of the command, from which
//	            comes its number, 4 bytes, and which takes a zero byte when PID 1 cannot be
//	            traced any more; only then that process executes the command. Without a gate
//	            the command is process 2
//
// With guards, corten-init outlives the command: in a pid namespace of its own it kills what
// else is in the container, as its end would have done, and stays until the pipes are empty.
// Somebody who finds the container without a reader can so take what was written last.
// Nothing but SIGKILL from outside ends it earlier.
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
