"""The embedded control plane: a real Kubernetes API with simulated nodes on this machine, for commands and tests."""

from headrace.cluster.binary import ControlPlaneMissing, find_controlplane
from headrace.cluster.embedded import ClusterError, ClusterInfo, EmbeddedCluster

__all__ = ["ClusterError", "ClusterInfo", "ControlPlaneMissing", "EmbeddedCluster", "find_controlplane"]
