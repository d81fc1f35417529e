"""Rendering: a Tree and a specification become Manifests. Each renderer reports what it read."""
