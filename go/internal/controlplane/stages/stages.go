// Package stages holds the life cycles that kwok plays for nodes, pods and
// volumes: kwok's own fast ones, volumes that are provisioned at once, and pods
// that fail on request.
package stages

import (
	_ "embed"
	"strings"

	nodefast "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	nodelease "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	podfast "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
)

//go:embed volume.yaml
var volume string

//go:embed failure.yaml
var failure string

//go:embed options.yaml
var options string

// Config is a kwok configuration file with all stages.
func Config() string {
	return strings.Join([]string{
		options,
		nodefast.DefaultNodeInit,
		nodelease.DefaultNodeHeartbeatWithLease,
		podfast.DefaultPodReady,
		podfast.DefaultPodComplete,
		podfast.DefaultPodDelete,
		volume,
		failure,
	}, "\n---\n")
}
