// Command corten-oci runs the containers of OCI bundles, with the command line of runc and crun.
package main

import (
	"context"
	"os"

	"github.com/cortenhq/corten/internal/cli/oci"
)

func main() {
	os.Exit(oci.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
