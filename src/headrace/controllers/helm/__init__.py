"""HelmRepository and HelmChart: indexes, registries, charts from sources, provenance."""
