"""Artifacts: packed the same way every time, stored so that a crash leaves the old or the new, served and opened."""
