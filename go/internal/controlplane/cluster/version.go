package cluster

import (
	"runtime/debug"

	"k8s.io/component-base/version"
)

var kubernetesVersion = version.Get().GitVersion

// Versions tells which releases the binary holds.
func Versions() map[string]string {
	versions := map[string]string{"kubernetes": kubernetesVersion}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return versions
	}
	names := map[string]string{"go.etcd.io/etcd/server/v3": "etcd", "sigs.k8s.io/kwok": "kwok"}
	for _, module := range info.Deps {
		if name, wanted := names[module.Path]; wanted {
			versions[name] = module.Version
		}
	}
	versions["go"] = info.GoVersion
	return versions
}
