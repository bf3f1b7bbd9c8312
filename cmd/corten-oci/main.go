// Command corten-oci runs the containers of OCI bundles, with the command line of runc and crun.
package main

import (
	"context"
	"os"

	"github.com/cortenhq/corten/internal/cli/oci"
	"github.com/cortenhq/corten/internal/kernel/nest"
)

func main() {
	refused := nest.Enter(os.Args)
	if refused == nil {
		refused = nest.Settle()
	}
	os.Exit(oci.Main(context.Background(), os.Args[1:], refused))
}
