// Command corten runs containers.
package main

import (
	"context"
	"os"

	"github.com/cortenhq/corten/internal/cli/front"
	"github.com/cortenhq/corten/internal/cli/shell"
)

func main() {
	os.Exit(front.Main(context.Background(), os.Args[1:], shell.Process()))
}
