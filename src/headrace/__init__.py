"""headrace: race the cluster to HEAD. A GitOps delivery engine for Flux sources."""

__version__ = "0.1.0"
