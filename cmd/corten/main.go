// Command corten runs containers.
package main

import (
	"context"
	"os"

	"github.com/cortenhq/corten/internal/cli/front"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/kernel/nest"
)

func main() {
	refused := nest.Enter(os.Args)
	env := shell.Process()
	env.Refused = refused
	os.Exit(front.Main(context.Background(), os.Args[1:], env))
}
