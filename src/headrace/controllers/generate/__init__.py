"""ArtifactGenerator: ExternalArtifacts from other artifacts."""
