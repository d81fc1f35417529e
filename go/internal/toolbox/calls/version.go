package calls

import (
	"context"
	"runtime/debug"
)

type nothing struct{}

func ping(context.Context, nothing, []byte) (any, []byte, error) { return nothing{}, nil, nil }

// libraries are those whose behaviour users see.
var libraries = map[string]string{
	"sigs.k8s.io/kustomize/api":        "kustomize-api",
	"sigs.k8s.io/kustomize/kyaml":      "kyaml",
	"sigs.k8s.io/yaml":                 "yaml",
	"github.com/Masterminds/semver/v3": "semver",
	"github.com/fluxcd/pkg/envsubst":   "envsubst",
	"github.com/fluxcd/pkg/ssa":        "flux-ssa",
	"filippo.io/age":                   "age",
	"github.com/getsops/sops/v3":       "sops",
	"github.com/google/cel-go":         "cel-go",
	"k8s.io/client-go":                 "client-go",
}

// Versions tells which libraries the binary holds.
func Versions() map[string]string {
	versions := map[string]string{}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return versions
	}
	versions["go"] = info.GoVersion
	for _, module := range info.Deps {
		if name, wanted := libraries[module.Path]; wanted {
			if module.Replace != nil {
				module = module.Replace
			}
			versions[name] = module.Version
		}
	}
	return versions
}

func version(context.Context, nothing, []byte) (any, []byte, error) { return Versions(), nil, nil }
