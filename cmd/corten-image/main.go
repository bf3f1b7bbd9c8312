// Command corten-image is the whole command line, with what registries, archives and
// compressed layers need linked in. corten executes it in its place for all that it does not
// do itself, and starts it for a run whose image is not here.
package main

import (
	"context"
	"os"

	"github.com/cortenhq/corten/internal/cli"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/kernel/nest"
)

func main() {
	refused := nest.Enter(os.Args)
	if refused == nil {
		refused = nest.Settle()
	}
	env := shell.Process()
	env.Refused = refused
	env.Supplier = supplier{}
	os.Exit(cli.Main(context.Background(), os.Args[1:], env))
}
