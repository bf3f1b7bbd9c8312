// Command notify says each of its arguments to the socket that NOTIFY_SOCKET names, as
// sd_notify(3) does: "\n" in one stands for a line break.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	for _, s := range os.Args[1:] {
		if err == nil {
			_, err = c.Write([]byte(strings.ReplaceAll(s, `\n`, "\n")))
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
