package deps

import (
	_ "github.com/Masterminds/semver/v3"
	_ "github.com/fluxcd/pkg/envsubst"
	_ "github.com/fluxcd/pkg/ssa/normalize"
	_ "sigs.k8s.io/kustomize/api/krusty"
	_ "sigs.k8s.io/kustomize/kyaml/filesys"
	_ "sigs.k8s.io/yaml"
)
