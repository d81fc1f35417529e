"""The custom resource kinds as Structs, one file per kind, and the CRDs that are generated from them."""

from __future__ import annotations

from importlib.resources import files


def crds() -> list[bytes]:
    """The CustomResourceDefinitions of all kinds, each one YAML document, in a stable order.

    YAML 1.2 plain enough that server-side apply takes it as it is (`application/apply-patch+yaml`).
    """
    directory = files("headrace.api") / "crds"
    return [path.read_bytes() for path in sorted(directory.iterdir(), key=lambda path: path.name)
            if path.name.endswith(".yaml")]
