"""Bucket: listing, download, publish, and who may read it."""
