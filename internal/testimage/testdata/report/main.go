// Report prints who it is and how it was started, one fact a line.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("uid", os.Getuid())
	fmt.Println("gid", os.Getgid())
	groups, _ := os.Getgroups()
	fmt.Println("groups", groups)
	cwd, err := os.Getwd()
	if err != nil {
		cwd = err.Error()
	}
	fmt.Println("cwd", cwd)
	for _, a := range os.Args {
		fmt.Println("arg", a)
	}
	for _, e := range os.Environ() {
		fmt.Println("env", e)
	}
}
