"""The commands about artifacts of registries: what they are called and which options they have, as in flux."""

from __future__ import annotations

import enum
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.output import Format
from headrace.cli.parameters import Timeout, do

if TYPE_CHECKING:
    from headrace.cli.artifact.registries import Login

push_app = typer.Typer(help="Push artifacts to a registry.", no_args_is_help=True)
pull_app = typer.Typer(help="Pull artifacts from a registry.", no_args_is_help=True)
tag_app = typer.Typer(help="Tag artifacts of a registry.", no_args_is_help=True)
list_app = typer.Typer(help="List artifacts of a registry.", no_args_is_help=True)


class Provider(str, enum.Enum):
    """Who knows the user of a registry."""

    GENERIC = "generic"
    AWS = "aws"
    AZURE = "azure"
    GCP = "gcp"


Url = Annotated[str, typer.Argument(metavar="URL", help="oci://REGISTRY/REPOSITORY:TAG")]
UntaggedUrl = Annotated[str, typer.Argument(metavar="URL", help="oci://REGISTRY/REPOSITORY")]
Creds = Annotated[
    str,
    typer.Option("--creds", help="USER:PASSWORD, or a token of the registry. Default: what Docker keeps.",
                 show_default=False),
]  # fmt: skip
ProviderOption = Annotated[Provider, typer.Option("--provider", help="Cloud whose identity is used.")]
Insecure = Annotated[
    bool, typer.Option("--insecure-registry", help="Allow a registry without TLS, or with any certificate.")
]
IgnorePaths = Annotated[
    list[str] | None,
    typer.Option("--ignore-paths", help="Leave out, in .gitignore format. Default: files of git, images, archives."),
]


def login_of(creds: str, provider: Provider, insecure: bool, timeout: float) -> Login:
    """The options by which registries are reached."""
    from headrace.cli.artifact.registries import Login

    return Login(creds=creds, provider=provider.value, insecure=insecure, timeout=timeout)


def ignored(patterns: Sequence[str] | None) -> tuple[str, ...]:
    """What `--ignore-paths` says, each of which may be several that are parted by commas."""
    from headrace.cli.artifact.local_files import IGNORED

    return IGNORED if patterns is None else _parted(patterns)


def _parted(values: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(part for value in values or () for part in value.split(",") if part)


@push_app.command("artifact")
def push_artifact(
    url: Url,
    path: Annotated[Path, typer.Option("--path", "-f", help="Directory, file, or `-` for standard input.")],
    source: Annotated[str, typer.Option("--source", help="Where the content comes from, as the URL of a repository.")],
    revision: Annotated[str, typer.Option("--revision", help="Which it is, as main@sha1:COMMIT.")],
    annotations: Annotated[
        list[str] | None, typer.Option("--annotations", "-a", help="Further annotations, as KEY=VALUE.")
    ] = None,
    ignore_paths: IgnorePaths = None,
    reproducible: Annotated[
        bool, typer.Option("--reproducible", help="The same digest for the same files: created in 1970.")
    ] = False,
    resolve_symlinks: Annotated[
        bool,
        typer.Option("--resolve-symlinks", help="Put in what symbolic links lead to, instead of leaving them out."),
    ] = False,
    output: Annotated[Format, typer.Option("--output", "-o", help="Form in which the digest is printed.")] = (
        Format.TABLE
    ),
    creds: Creds = "",
    provider: ProviderOption = Provider.GENERIC,
    insecure: Insecure = False,
    timeout: Timeout = "5m",  # type: ignore[assignment]
) -> None:
    """Push local manifests as an artifact that an OCIRepository delivers."""
    from headrace.cli.artifact.push import PushOptions, push

    options = PushOptions(
        url=url, path=path, source=source, revision=revision, annotations=annotations or (),
        ignore=ignored(ignore_paths), reproducible=reproducible, resolve_links=resolve_symlinks, form=output,
    )  # fmt: skip
    do(push(options, login_of(creds, provider, insecure, timeout)))


@pull_app.command("artifact")
def pull_artifact(
    url: Url,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory that the files are put in.")],
    creds: Creds = "",
    provider: ProviderOption = Provider.GENERIC,
    insecure: Insecure = False,
    timeout: Timeout = "5m",  # type: ignore[assignment]
) -> None:
    """Download an artifact and unpack it below a directory."""
    from headrace.cli.artifact.pull import pull

    do(pull(url, output, login_of(creds, provider, insecure, timeout)))


@tag_app.command("artifact")
def tag_artifact(
    url: Url,
    tags: Annotated[list[str], typer.Option("--tag", help="Tag that it gets; several are parted by commas.")],
    creds: Creds = "",
    provider: ProviderOption = Provider.GENERIC,
    insecure: Insecure = False,
    timeout: Timeout = "5m",  # type: ignore[assignment]
) -> None:
    """Give an artifact further tags."""
    from headrace.cli.artifact.tag import tag

    do(tag(url, _parted(tags), login_of(creds, provider, insecure, timeout)))


@list_app.command("artifact", hidden=True)
@list_app.command("artifacts")
def list_artifacts(
    url: UntaggedUrl,
    semver: Annotated[str, typer.Option("--filter-semver", help="Only tags in this range of versions.")] = "",
    regex: Annotated[str, typer.Option("--filter-regex", help="Only tags in which this expression is found.")] = "",
    output: Annotated[Format, typer.Option("--output", "-o", help="Form of the output.")] = Format.TABLE,
    creds: Creds = "",
    provider: ProviderOption = Provider.GENERIC,
    insecure: Insecure = False,
    timeout: Timeout = "5m",  # type: ignore[assignment]
) -> None:
    """List the tags of a repository, with digest, source and revision."""
    from headrace.cli.artifact.listing import list_artifacts

    do(list_artifacts(url, semver, regex, output, login_of(creds, provider, insecure, timeout)))


def diff(
    words: Sequence[str], path: Path | None, ignore_paths: Sequence[str] | None, login: Login
) -> Coroutine[Any, Any, int]:
    """The work of `headrace diff artifact URL`. Raises CommandError(USAGE)."""
    from headrace.cli.artifact.diff import diff_artifact
    from headrace.cli.exits import USAGE, CommandError

    if len(words) != 1:
        raise CommandError("one artifact is required, as oci://REGISTRY/REPOSITORY:TAG", USAGE)
    return diff_artifact(words[0], path, ignored(ignore_paths), login)
