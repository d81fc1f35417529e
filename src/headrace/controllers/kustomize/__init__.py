"""Kustomization: from the source to delivered, healthy objects, and back."""
