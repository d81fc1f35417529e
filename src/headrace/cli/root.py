"""The objects that `headrace up` makes: a real GitRepository and Kustomization, as `flux bootstrap` would make them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION
from headrace.api.kustomization import RECONCILE

NAME = "flux-system"
"""Name and namespace of both, by which manifests made for Flux refer to their own source."""
GIT_REPOSITORY_REFERENCE = GIT_REPOSITORY.reference(NAME, NAME)
KUSTOMIZATION_REFERENCE = KUSTOMIZATION.reference(NAME, NAME)
HANDS_OFF = {RECONCILE: "disabled"}
"""On the objects made here: a repository that holds its own flux-system objects must not turn them back to the remote
that it was cloned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """What the root objects say. A `password` makes a Secret for the loopback git server."""

    url: str
    branch: str
    path: str
    interval: str
    user: str = ""
    password: str = ""


def root_objects(root: Root) -> list[dict[str, Any]]:
    """The objects in the order in which they are applied."""
    found = [_namespace()]
    if root.password:
        found.append(_secret(root))
    return [*found, _repository(root), _kustomization(root)]


def _namespace() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}


def _secret(root: Root) -> dict[str, Any]:
    data = {"username": root.user, "password": root.password}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata(), "type": "Opaque", "data": encoded}


def _repository(root: Root) -> dict[str, Any]:
    spec: dict[str, Any] = {"interval": root.interval, "url": root.url, "ref": {"branch": root.branch}}
    if root.password:
        spec["secretRef"] = {"name": NAME}
    return {
        "apiVersion": GIT_REPOSITORY.api_version,
        "kind": GIT_REPOSITORY.kind,
        "metadata": _metadata(),
        "spec": spec,
    }


def _kustomization(root: Root) -> dict[str, Any]:
    spec = {
        "interval": root.interval,
        "path": root.path,
        "prune": True,
        "sourceRef": {"kind": GIT_REPOSITORY.kind, "name": NAME},
    }
    return {"apiVersion": KUSTOMIZATION.api_version, "kind": KUSTOMIZATION.kind, "metadata": _metadata(), "spec": spec}


def _metadata() -> dict[str, Any]:
    return {"name": NAME, "namespace": NAME, "annotations": dict(HANDS_OFF)}
