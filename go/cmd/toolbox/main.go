// Command headrace-toolbox does, as a child of headrace, what only the official
// Go libraries do right: kustomize builds, Flux's substitution, SOPS, CEL, YAML, semver.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"headrace.dev/headrace/go/internal/toolbox/build"
	"headrace.dev/headrace/go/internal/toolbox/calls"
	"headrace.dev/headrace/go/internal/toolbox/decrypt"
	"headrace.dev/headrace/go/internal/toolbox/jail"
	"headrace.dev/headrace/go/internal/toolbox/serve"
)

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	switch os.Args[1] {
	case "serve":
		os.Exit(runServe(os.Args[2:]))
	case "version":
		if err := json.NewEncoder(os.Stdout).Encode(calls.Versions()); err != nil {
			os.Exit(1)
		}
	default:
		usage()
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "Usage: headrace-toolbox serve [flags] | version")
	os.Exit(2)
}

// runServe answers calls on standard input until the parent closes it.
func runServe(args []string) int {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	memory := flags.Int64("memory-limit", 0, "bytes of memory beyond which the process ends itself")
	network := flags.String("network", "", "allow remote bases, cloned into this folder")
	services := flags.String("key-services", "", "allow calls of key services, as this JSON says")
	builds := flags.Bool("builds", false, "parse at once the schema that every build takes")
	_ = flags.Parse(args)
	serve.LimitMemory(*memory)
	if *network == "" {
		build.DenyNetwork()
	} else if err := build.GuardNetwork(*network); err != nil {
		fmt.Fprintln(os.Stderr, "headrace-toolbox: --network:", err)
		return 2
	}
	if err := openKeyServices(*services); err != nil {
		fmt.Fprintln(os.Stderr, "headrace-toolbox: --key-services:", err)
		return 2
	}
	if *network == "" && *services == "" {
		if err := jail.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, "headrace-toolbox: confinement:", err)
			return 2
		}
	}
	if *builds {
		go build.WarmUp()
	}
	// Standard output carries frames: whatever a library prints goes elsewhere.
	out := os.Stdout
	os.Stdout = os.Stderr
	if err := serve.New(calls.All, out).Run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "headrace-toolbox:", err)
		return 1
	}
	return 0
}

func openKeyServices(chosen string) error {
	if chosen == "" {
		return nil
	}
	var network decrypt.Network
	if err := json.Unmarshal([]byte(chosen), &network); err != nil {
		return err
	}
	return decrypt.OpenNetwork(network)
}
