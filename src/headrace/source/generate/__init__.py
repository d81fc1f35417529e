"""Artifacts made of the files of other sources: what an ArtifactGenerator copies, merges and unpacks."""
