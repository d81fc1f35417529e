package stages

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestEveryDocumentIsAStageOrOptions(t *testing.T) {
	names := map[string]bool{}
	for _, text := range strings.Split(Config(), "\n---\n") {
		var document struct {
			Kind     string `json:"kind"`
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(text), &document); err != nil {
			t.Fatal(err)
		}
		names[document.Kind+"/"+document.Metadata.Name] = true
	}
	for _, name := range []string{"KwokConfiguration/", "Stage/pod-ready", "Stage/node-initialize", "Stage/claim-provision"} {
		if !names[name] {
			t.Errorf("%s is missing: %v", name, names)
		}
	}
}
