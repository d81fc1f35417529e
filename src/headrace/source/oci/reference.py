"""Names of repositories, tags and digests: can only be built valid."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

SCHEME = "oci://"
DEFAULT_TAG = "latest"
DOCKER_HUB = "index.docker.io"
"""The name under which the credentials of Docker Hub are kept, and which stands for all its other names."""
_DOCKER_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_DOCKER_HUB_SERVER = "registry-1.docker.io"
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
                   r"|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")  # fmt: skip
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = {"sha256": re.compile(r"sha256:[0-9a-f]{64}"), "sha512": re.compile(r"sha512:[0-9a-f]{128}")}
"""The algorithms that are accepted; MD5, SHA-1 and whatever else is refused (SEC-33)."""
_NAME_LENGTH = 255
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class ReferenceRefused(ValueError):
    """A name that is none. The message is for users."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a registry. `host` is as users write it, with its port; `path` has no tag."""

    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def server(self) -> str:
        """The host and port that are connected to."""
        return _DOCKER_HUB_SERVER if self.host == DOCKER_HUB else self.host

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine by its name, where plain HTTP leaves no trace on any network."""
        return self.host.rpartition(":")[0] in _LOOPBACK or self.host in _LOOPBACK

    def named(self, reference: str) -> str:
        """The repository with a tag or digest, for messages."""
        return f"{self}{'@' if ':' in reference else ':'}{reference}"


def parse_url(url: str) -> Repository:
    """The repository of an `oci://` URL, which carries neither tag nor digest (SRC-OCI-06). Raises ReferenceRefused."""
    if not url.startswith(SCHEME):
        raise ReferenceRefused("URL must be in format 'oci://<domain>/<org>/<repo>'")
    return parse_repository(url.removeprefix(SCHEME))


def parse_repository(text: str) -> Repository:
    """The repository of `host/path`; without a host that looks like one, of Docker Hub. Raises ReferenceRefused."""
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host, path = first, rest
    else:
        host, path = DOCKER_HUB, text
    host = DOCKER_HUB if host in _DOCKER_HUB_NAMES else host.lower()
    if "/" not in path and host == DOCKER_HUB:
        path = f"library/{path}"
    _check_path(path)
    if not _HOST.fullmatch(host):
        raise ReferenceRefused("URL is refused: its host or port is not valid")
    return Repository(host, path)


def _check_path(path: str) -> None:
    for separator, what in (("@", "digest"), (":", "tag")):
        if separator in path:
            extra = path[path.index(separator) :]
            raise ReferenceRefused(f"URL must not contain a {what}; remove '{_shown(extra)}'")
    if not _PATH.fullmatch(path) or len(path) > _NAME_LENGTH:
        raise ReferenceRefused(f"repository '{_shown(path)}' is no name of a repository")


def parse_reference(text: str) -> tuple[Repository, str]:
    """The repository and the tag or digest of `[oci://]host/path[:tag][@digest]`; `latest` without one.

    For command lines. A digest wins over a tag beside it. Raises ReferenceRefused.
    """
    text = text.removeprefix(SCHEME)
    named, _, digest = text.partition("@")
    head, slash, last = named.rpartition("/")
    last, _, tag = last.partition(":")
    repository = parse_repository(f"{head}{slash}{last}")
    return repository, check_digest(digest) if digest else check_tag(tag or DEFAULT_TAG)


def check_tag(tag: str) -> str:
    """The tag itself. Raises ReferenceRefused when it is none."""
    if not _TAG.fullmatch(tag):
        raise ReferenceRefused(f"'{_shown(tag)}' is no tag")
    return tag


def check_digest(digest: str) -> str:
    """The digest itself. Raises ReferenceRefused for anything but a whole SHA-256 or SHA-512 digest (SEC-33)."""
    pattern = _DIGEST.get(digest.partition(":")[0])
    if pattern is None or not pattern.fullmatch(digest):
        raise ReferenceRefused(f"'{_shown(digest)}' is no digest: 'sha256:' and 64 hexadecimal digits are wanted")
    return digest


def is_digest(reference: str) -> bool:
    """Whether a valid reference is a digest, not a tag."""
    return ":" in reference


def digest_of(data: bytes) -> str:
    """The SHA-256 digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def hasher(digest: str) -> hashlib._Hash:
    """What computes digests of the same algorithm."""
    return hashlib.new(digest.partition(":")[0])


def matches(data: bytes, digest: str) -> bool:
    """Whether the bytes have the digest."""
    computed = hasher(digest)
    computed.update(data)
    return digest == f"{computed.name}:{computed.hexdigest()}"


def _shown(text: str) -> str:
    return text[:128].encode("unicode_escape", "backslashreplace").decode()
