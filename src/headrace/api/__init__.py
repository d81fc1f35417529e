"""The custom resource kinds as Structs, one file per kind, and the CRDs that are generated from them."""
