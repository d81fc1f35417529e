"""`headrace build kustomization`: what would be applied, from local files, as `flux build` prints it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headrace.cli.connect import Target
from headrace.cli.exits import OK, USAGE, CommandError
from headrace.cli.local_tree import local_files
from headrace.cli.output import Format, dump, say
from headrace.cli.previews import previews
from headrace.model.manifests import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """`file` is a Kustomization that goes before the cluster's; `dry_run` asks no cluster at all."""

    path: Path
    file: Path | None = None
    dry_run: bool = False
    strict: bool = False


async def build(target: Target, name: str, options: BuildOptions) -> int:
    """Print the objects as YAML documents. Raises CommandError."""
    if options.dry_run and options.file is None:
        raise CommandError("--dry-run needs --kustomization-file", USAGE)
    async with previews(target, offline=options.dry_run) as made:
        named = await made.find(name, target.namespace, options.file)
        with local_files(options.path, named.ks.spec.path) as files:
            manifests, _ = await made.build(named, files, strict=options.strict)
    say("\n".join(map(document, manifests.items)))
    return OK


def document(manifest: Manifest) -> str:
    """One object as a YAML document, in the usual order of its first fields."""
    content: dict[str, Any] = msgspec.json.decode(manifest.body)
    first = {key: content[key] for key in ("apiVersion", "kind", "metadata") if key in content}
    return "---\n" + dump(first | content, Format.YAML)
