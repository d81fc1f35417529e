"""`headrace pull artifact`: the files of an artifact, as whoever delivers it gets them."""

from __future__ import annotations

from pathlib import Path

from headrace.cli.artifact.registries import Login, connected, parse_artifact, shown
from headrace.cli.exits import OK, USAGE, CommandError
from headrace.cli.output import action, success
from headrace.source.oci.manifest import REVISION, SOURCE


async def pull(url: str, output: Path, login: Login) -> int:
    """Unpack below `output`, which exists; what is there already and not in the artifact stays. Raises CommandError."""
    repository, reference = parse_artifact(url)
    directory = _directory(output)
    async with connected(repository, login) as remote:
        action(f"pulling artifact from {repository.named(reference)}")
        artifact = await remote.artifact(reference)
        await remote.extract(artifact, directory)
    annotations = artifact.manifest.annotations or {}
    success(f"source {shown(annotations.get(SOURCE, ''))}")
    success(f"revision {shown(annotations.get(REVISION, ''))}")
    success(f"digest {repository.named(artifact.digest)}")
    success(f"artifact content extracted to {output}")
    return OK


def _directory(output: Path) -> Path:
    if not output.is_dir():
        raise CommandError(f"invalid output path '{output}': it is no directory", USAGE)
    return output.resolve()
