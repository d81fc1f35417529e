"""Manifests and indexes as registries hold them, and the media types of Flux's own artifacts.

What programs in Go leave empty may be null: lists and maps are read as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from headrace.source.oci.errors import OciError
from headrace.source.oci.reference import ReferenceRefused, check_digest

T = TypeVar("T")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPTED = (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX)
FLUX_CONFIG = "application/vnd.cncf.flux.config.v1+json"
FLUX_CONTENT = "application/vnd.cncf.flux.content.v1.tar+gzip"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

CREATED = "org.opencontainers.image.created"
SOURCE = "org.opencontainers.image.source"
REVISION = "org.opencontainers.image.revision"

_ENTRIES = 4096
"""Layers of a manifest, or manifests of an index, that are looked at."""


class Platform(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """For which machine an image of an index is."""

    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """Names a content by its digest; `size` is its bytes, which it must have exactly."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    artifact_type: str = ""
    platform: Platform | None = None
    urls: tuple[str, ...] | None = None
    """Other places of the content. Never followed: they would lead anywhere."""


class Manifest(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True):
    """One image or artifact."""

    media_type: str = MANIFEST
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True):
    """Several manifests under one name: one for each platform, or those that refer to another."""

    media_type: str = INDEX
    manifests: tuple[Descriptor, ...] | None = None
    annotations: dict[str, str] | None = None


def encoded(made: Manifest | Index) -> bytes:
    """A manifest or index as it is pushed."""
    return msgspec.json.encode({"schemaVersion": 2, "mediaType": made.media_type} | msgspec.to_builtins(made))


LINUX = Platform("amd64", "linux")


class Content(msgspec.Struct, frozen=True, gc=False):
    """A manifest or index as it came, its bytes verified against `descriptor.digest`."""

    descriptor: Descriptor
    body: bytes

    @property
    def is_index(self) -> bool:
        return self.descriptor.media_type in (INDEX, DOCKER_INDEX)

    def manifest(self) -> Manifest:
        """Raises OciError when the content is no manifest."""
        found = _decoded(self.body, Manifest)
        layers = found.layers or ()
        _check(layers if found.config is None else (found.config, *layers))
        return found

    def index(self) -> Index:
        """Raises OciError when the content is no index."""
        found = _decoded(self.body, Index)
        _check(found.manifests or ())
        return found


def of_platform(index: Index, wanted: Platform = LINUX) -> Descriptor:
    """The first manifest of an index that is for `wanted`, or does not say for what. Raises OciError.

    Upstream takes linux/amd64 whatever machine it runs on: an artifact is the same everywhere.
    """
    for found in index.manifests or ():
        platform = found.platform or LINUX
        if platform.os == wanted.os and platform.architecture == wanted.architecture:
            return found
    raise OciError(f"no child with platform {wanted.os}/{wanted.architecture} in index")


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OciError(f"the manifest cannot be read: {error}") from error


def _check(descriptors: Sequence[Descriptor]) -> None:
    """Digests are checked before anything is fetched by them."""
    if len(descriptors) > _ENTRIES:
        raise OciError(f"the manifest has more than {_ENTRIES} entries")
    try:
        for descriptor in descriptors:
            check_digest(descriptor.digest)
    except ReferenceRefused as error:
        raise OciError(f"the manifest is not valid: {error}") from error
    if any(descriptor.size < 0 for descriptor in descriptors):
        raise OciError("the manifest is not valid: a size is negative")
