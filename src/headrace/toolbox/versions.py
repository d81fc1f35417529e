"""Which libraries the toolbox has to hold. Another binary than the one that belongs to this package, such as one that
was not built again after an upgrade, would render otherwise without anybody noticing (REL-26)."""

from __future__ import annotations

from collections.abc import Mapping

WANTED = {
    "age": "v1.3.1",
    "cel-go": "v0.26.0",
    "client-go": "v0.36.3",
    "envsubst": "v1.7.1",
    "flux-ssa": "v0.76.2",
    "kustomize-api": "v0.21.1",
    "kyaml": "v0.21.1",
    "semver": "v3.5.0",
    "sops": "v3.13.2",
    "yaml": "v1.6.0",
}
"""As go/go.mod has them, by the names that the toolbox tells."""


def differences(told: Mapping[str, str]) -> list[str]:
    """What is not as it should be, each as `sops v3.9.0 instead of v3.13.2`."""
    return [
        f"{name} {told.get(name, 'missing')} instead of {version}"
        for name, version in WANTED.items()
        if told.get(name) != version
    ]
