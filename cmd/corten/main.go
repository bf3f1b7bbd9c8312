// Command corten runs containers.
package main

import (
	"context"
	"os"

	"github.com/cortenhq/corten/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Process()))
}
