package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkBuild builds a folder of Deployments without a kustomization file.
func BenchmarkBuild(b *testing.B) {
	for _, count := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			root := b.TempDir()
			for i := range count {
				content := fmt.Sprintf(deployment, i)
				if err := os.WriteFile(filepath.Join(root, fmt.Sprintf("f%d.yaml", i)), []byte(content), 0o600); err != nil {
					b.Fatal(err)
				}
			}
			WarmUp()
			for b.Loop() {
				if _, _, err := Run(context.Background(), Request{Root: root, Normalize: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: d%d}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec: {containers: [{name: a, image: 'nginx:1'}]}
`
