"""`headrace push|pull|tag|list|diff artifact`: artifacts of OCI registries in the form that the flux command line gives
them, so that either reads what the other has written."""
