"""OCI registries: references, credentials, the distribution protocol, layers, signatures.

`registry.Registry` is the client that everything uses that talks to a registry.
"""
