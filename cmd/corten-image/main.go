// Command corten-image brings images: corten starts it for pull, load and import, and for a
// run whose image is not here. It is the same command line as corten, with what registries,
// archives and compressed layers need linked in.
package main

import (
	"context"
	"os"

	"github.com/cortenhq/corten/internal/cli"
)

func main() {
	env := cli.Process()
	env.Supplier = supplier{}
	os.Exit(cli.Main(context.Background(), os.Args[1:], env))
}
