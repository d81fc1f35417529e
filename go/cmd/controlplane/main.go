// Command headrace-controlplane is a whole Kubernetes control plane in one
// binary: the official components, each run as its own process of it, and a
// supervisor that starts them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"headrace.dev/headrace/go/internal/controlplane/cluster"
	"headrace.dev/headrace/go/internal/controlplane/component"
)

func main() {
	if len(os.Args) < 2 {
		usage(os.Stderr)
		os.Exit(2)
	}
	os.Exit(run(os.Args[1], os.Args[2:]))
}

func run(name string, args []string) int {
	switch name {
	case "start":
		return start(args)
	case "version":
		return version()
	case "help", "-h", "--help":
		usage(os.Stdout)
		return 0
	}
	component, known := component.Lookup(name)
	if !known {
		usage(os.Stderr)
		return 2
	}
	// The components read os.Args, as programs of their own would.
	os.Args = append([]string{name}, args...)
	return component(os.Args)
}

func start(args []string) int {
	log.SetFlags(0)
	log.SetPrefix("headrace-controlplane: ")
	options, err := cluster.ParseOptions(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		log.Print(err)
		return 2
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if options.StopOnEOF {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	if err := cluster.Run(ctx, options, os.Stdout); err != nil && ctx.Err() == nil {
		log.Print(err)
		return 1
	}
	return 0
}

func version() int {
	if err := json.NewEncoder(os.Stdout).Encode(cluster.Versions()); err != nil {
		return 1
	}
	return 0
}

func usage(out io.Writer) {
	_, _ = fmt.Fprintf(out, "Usage: headrace-controlplane start|version|COMPONENT [flags]\nComponents: %s\n",
		strings.Join(component.Names(), ", "))
}
