"""`headrace push artifact`: local files become an artifact that an OCIRepository delivers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import msgspec

from headrace.artifact.pack import pack
from headrace.cli.artifact.local_files import staged
from headrace.cli.artifact.registries import Login, Remote, connected, parse_tagged
from headrace.cli.exits import OK, USAGE, CommandError
from headrace.cli.output import Format, action, dump, say, success
from headrace.core.clock import SystemClock, rfc3339
from headrace.source.oci.manifest import (
    CREATED,
    FLUX_CONFIG,
    FLUX_CONTENT,
    MANIFEST,
    REVISION,
    SOURCE,
    Descriptor,
    Manifest,
    encoded,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """`annotations` are `key=value`. `reproducible` makes the same artifact of the same files at any time."""

    url: str
    path: Path
    source: str
    revision: str
    annotations: Sequence[str] = ()
    ignore: Sequence[str] = ()
    reproducible: bool = False
    resolve_links: bool = False
    form: Format = Format.TABLE


async def push(options: PushOptions, login: Login) -> int:
    """Push, and print which digest it has. Raises CommandError."""
    repository, tag = parse_tagged(options.url)
    annotations = annotations_of(options)
    with staged(options.path, options.ignore, resolve_links=options.resolve_links) as directory:
        async with connected(repository, login) as remote:
            if options.form is Format.TABLE:
                action(f"pushing artifact to {repository.named(tag)}")
            pushed = await _push(remote, tag, directory, annotations)
    named = repository.named(pushed.digest)
    if options.form is Format.TABLE:
        success(f"artifact successfully pushed to {named}")
    else:
        told = {"url": f"oci://{named}", "repository": str(repository), "tag": tag, "digest": pushed.digest}
        say(dump(told, options.form))
    return OK


async def _push(remote: Remote, tag: str, directory: Path, annotations: dict[str, str]) -> Descriptor:
    layer, tar_digest = await asyncio.to_thread(_packed, directory)
    config = await _blob(remote, _config(tar_digest), FLUX_CONFIG)
    content = await _blob(remote, layer, FLUX_CONTENT)
    body = encoded(Manifest(config=config, layers=(content,), annotations=annotations))
    return await remote.registry.push_manifest(
        remote.repository, tag, body, MANIFEST, remote.access, timeout=remote.timeout
    )


async def _blob(remote: Remote, data: bytes, media_type: str) -> Descriptor:
    return await remote.registry.push_blob(remote.repository, data, media_type, remote.access, timeout=remote.timeout)


def _packed(directory: Path) -> tuple[bytes, str]:
    """The tar.gz of a directory, and the digest of the tar in it."""
    with TemporaryFile(prefix="headrace-") as file:
        packed = pack(directory, file)
        file.seek(0)
        return file.read(), packed.tar_digest


def _config(tar_digest: str) -> bytes:
    """A configuration of an image for no machine: tools for images find the digest of the tar where they look."""
    rootfs = {"type": "layers", "diff_ids": [tar_digest]}
    return msgspec.json.encode({"architecture": "", "os": "", "config": {}, "rootfs": rootfs})


def annotations_of(options: PushOptions) -> dict[str, str]:
    """Those of flux; the user's own go before them. Raises CommandError(USAGE)."""
    for name, value in (("--source", options.source), ("--revision", options.revision)):
        if not value:
            raise CommandError(f"{name} is required", USAGE)
    now = 0.0 if options.reproducible else SystemClock().now()
    found = {CREATED: rfc3339(now), SOURCE: options.source, REVISION: options.revision}
    for annotation in options.annotations:
        key, equals, value = annotation.partition("=")
        if not equals or not key:
            raise CommandError(f"invalid annotation '{annotation}', must be in the format key=value", USAGE)
        found[key] = value
    return found
