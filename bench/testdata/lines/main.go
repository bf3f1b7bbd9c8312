// Command lines writes so many lines of 100 bytes to stdout, as fast as it is read: it must
// not be what a benchmark of logs measures.
package main

import (
	"bytes"
	"os"
	"strconv"
)

func main() {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		os.Exit(2)
	}
	const batch = 1000
	line := append(bytes.Repeat([]byte("x"), 99), '\n')
	lines := bytes.Repeat(line, batch)
	for ; n > 0; n -= batch {
		if _, err := os.Stdout.Write(lines[:min(n, batch)*len(line)]); err != nil {
			os.Exit(1)
		}
	}
}
