"""Manifests and live objects for the tests of planning and applying."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from headrace.kube.objects import decode_object
from headrace.model.manifests import Manifest
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference, split_api_version

OWNER = {"kustomize.toolkit.fluxcd.io/name": "app", "kustomize.toolkit.fluxcd.io/namespace": "default"}
SSA = "kustomize.toolkit.fluxcd.io/ssa"
RECONCILE = "kustomize.toolkit.fluxcd.io/reconcile"
PRUNE = "kustomize.toolkit.fluxcd.io/prune"


def manifest(
    kind: str = "ConfigMap", name: str = "app", *, api_version: str = "v1", namespace: str = "default",
    annotations: dict[str, str] | None = None, data: str = "1", cluster: str = "",
) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": OWNER, "annotations": annotations}
    body = msgspec.json.encode({"apiVersion": api_version, "kind": kind, "metadata": metadata, "data": {"k": data}})
    return Manifest(
        reference=Reference(split_api_version(api_version)[0], kind, namespace, name, cluster),
        api_version=api_version, body=body, digest=hashlib.sha256(body).hexdigest(),
        file=f"{kind.lower()}.yaml", labels=OWNER, annotations=annotations,
    )


def field(manager: str = "kustomize-controller", operation: str = "Apply", fields: Any = None, **more: str) -> Any:
    fields = {"f:data": {"f:k": {}}} if fields is None else fields
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "time": "2026-11-21T10:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": fields} | more


def live(wanted: Manifest | None = None, *, version: str = "10", fields: Any = None, **metadata: Any) -> LiveObject:
    wanted = wanted or manifest()
    content = msgspec.json.decode(wanted.body)
    content["metadata"] |= {"uid": "u1", "resourceVersion": version, "managedFields": fields or [field()]} | metadata
    return decode_object(msgspec.json.encode(content))
