"""GitRepository: poll, fetch, verify, publish."""
