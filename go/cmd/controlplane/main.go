// Command headrace-controlplane is a whole Kubernetes control plane in one
// binary: the official components, each run as its own process of it, and a
// supervisor that starts them.
package main

import (
	"fmt"
	"os"

	"headrace.dev/headrace/go/internal/controlplane/component"
)

func main() {
	run, _ := component.Lookup(os.Args[1])
	os.Args = append([]string{os.Args[1]}, os.Args[2:]...)
	fmt.Fprintln(os.Stderr)
	os.Exit(run(os.Args))
}
