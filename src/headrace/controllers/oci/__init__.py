"""OCIRepository: poll, verify, pull, publish."""
