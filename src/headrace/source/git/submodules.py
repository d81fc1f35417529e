"""Submodules of a commit: which repositories they are, and with which identity they are asked (SRC-GIT-29, SEC-08).

Their addresses are part of the repository, so whoever can commit writes them: they pass the same gate as every URL,
and the credentials of the object are used only for the server that the object names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.core.egress import RemoteUrl, UrlRefused, parse_url
from headrace.core.paths import printable
from headrace.source.git.credentials import Credentials, http_credentials
from headrace.source.git.errors import GitError
from headrace.source.git.program import git

DEPTH = 10
"""Submodules of submodules that are followed, as upstream does."""
_GITMODULES = ".gitmodules"
_SSH_USER = "git"
_SHORT_SSH = re.compile(r"(?P<server>[A-Za-z0-9._-]+@[A-Za-z0-9.-]+):(?!/)(?P<path>.+)")
"""`git@host:path`, which in .gitmodules is more usual than the URL that it means."""


@dataclass(frozen=True, slots=True)
class Submodule:
    """A commit of another repository at a path of this one; the address is as the repository says it."""

    path: str
    url: str
    commit: str


async def list_submodules(
    mirror: Path, commit: str, links: Mapping[str, str], timeout: float
) -> tuple[Submodule, ...]:
    """Those of `links` (path to commit) for which the commit names an address. Raises GitError."""
    if not links:
        return ()
    read = await git("config", "--blob", f"{commit}:{_GITMODULES}", "--null", "--list", cwd=mirror, timeout=timeout)
    if read.code != 0:
        raise GitError(f"unable to read {_GITMODULES} of commit '{commit}': {read.errors[:256]}")
    sections: dict[str, dict[str, str]] = {}
    for entry in read.stdout.decode("utf-8", "replace").split("\0"):
        name, _, value = entry.partition("\n")
        section, _, key = name.rpartition(".")
        if section.startswith("submodule."):
            sections.setdefault(section, {})[key] = value
    urls = {section["path"]: section["url"] for section in sections.values() if section.keys() >= {"path", "url"}}
    return tuple(Submodule(path, urls[path], link) for path, link in sorted(links.items()) if path in urls)


def locate(module: Submodule, parent: RemoteUrl, credentials: Credentials) -> tuple[RemoteUrl, Credentials]:
    """Where a submodule is, and the identity towards that server. Raises GitError."""
    shown = f"submodule {printable(module.path)}"
    try:
        url = parse_url(_absolute(module.url, parent), ("http", "https", "ssh"))
        if url.origin == parent.origin and url.username in ("", parent.username or _SSH_USER):
            return url, credentials
        if url.scheme != "ssh":
            anonymous = http_credentials({}, url)
            return url, Credentials(anonymous.authorization, proxy=credentials.proxy)
    except (UrlRefused, ValueError) as error:
        raise GitError(f"{shown}: {error}") from None
    raise GitError(f"{shown}: the key is for '{parent.host}' only, and the submodule is on '{url.host}'")


def _absolute(text: str, parent: RemoteUrl) -> str:
    """`./x` and `../x` are relative to the repository that says so; they do not leave its server."""
    short = _SHORT_SSH.fullmatch(text)
    if short:
        return f"ssh://{short['server']}/{short['path']}"
    if not text.startswith(("./", "../")):
        return text
    path = parent.text.removeprefix(f"{parent.scheme}://").rstrip("/").split("/")
    for segment in text.split("/"):
        if segment == "..":
            if len(path) < 2:
                raise UrlRefused("URL is refused: it leads above the root of the server")
            path.pop()
        elif segment not in ("", "."):
            path.append(segment)
    return f"{parent.scheme}://{'/'.join(path)}"
