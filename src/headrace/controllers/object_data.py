"""Reading the data of ConfigMaps and Secrets that specifications name: always in the object's own namespace."""

from __future__ import annotations

import base64
import binascii

import msgspec

from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope


class _Data(msgspec.Struct, frozen=True, gc=False):
    data: dict[str, str] | None = None


def _data(live: LiveObject) -> dict[str, str]:
    return live.decode(_Data).data or {}


DATA = Part("data", _data, secret=True)
"""All of `data`; labels and annotations do not count."""


class ObjectData(msgspec.Struct, frozen=True, gc=False):
    """The decoded data of one object; `version` names this state of it without telling anything of its content."""

    values: dict[str, bytes]
    version: str


async def read_data(kind: str, namespace: str, name: str, scope: Scope) -> ObjectData | None:
    """The data of a `ConfigMap` or `Secret`; None when it does not exist. Raises KubeError."""
    live = await scope.read(Reference("", kind, namespace, name), DATA)
    if live is None:
        return None
    version = f"{kind}/{name}:{live.metadata.uid}:{live.metadata.resource_version}"
    data = _data(live)
    if kind == "ConfigMap":
        return ObjectData({key: value.encode() for key, value in data.items()}, version)
    return ObjectData({key: decoded(value) for key, value in data.items()}, version)


def decoded(value: str) -> bytes:
    """A value of a Secret, which the API server keeps in valid base64 always."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def not_found(kind: str, name: str) -> str:
    """What the API server says of a missing object."""
    return f'{kind.lower()}s "{name}" not found'
