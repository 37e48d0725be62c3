// Command dashboards reads files as the dashboards of Grafana's own types, strictly, and prints what
// is amiss: a field that no type has, one that is missing, a value that is none of a field's.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	// Of the panels and of what they ask of Prometheus.
	plugins.RegisterDefaultPlugins()
	sound := true
	for _, path := range os.Args[1:] {
		if err := judge(path); err != nil {
			fmt.Printf("%s: %v\n", path, err)
			sound = false
		}
	}
	if !sound {
		os.Exit(1)
	}
}

func judge(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var board dashboard.Dashboard
	// What is sound is an error of no words.
	if err := board.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		return err
	}
	return board.Validate()
}
