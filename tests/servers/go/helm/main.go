// Command helm reads a chart with Helm's own loader, and says what it found.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

func main() {
	chart, err := loader.Load(os.Args[1])
	if err == nil {
		err = chart.Validate()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dependencies := map[string]string{}
	for _, dependency := range chart.Dependencies() {
		dependencies[dependency.Name()] = dependency.Metadata.Version
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"name": chart.Name(), "version": chart.Metadata.Version, "appVersion": chart.Metadata.AppVersion,
		"values": chart.Values, "dependencies": dependencies, "templates": len(chart.Templates),
	})
}
