"""Registries as commands use them: with this user's credentials, for as long as a command runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from headrace.api.meta import GENERIC
from headrace.cli.artifact import docker_config
from headrace.cli.exits import FAILED, NOT_FOUND, TIMED_OUT, USAGE, CommandError
from headrace.cli.output import action
from headrace.core.clock import SystemClock
from headrace.core.egress import Egress, EgressPolicy
from headrace.core.unpack import ArchiveRefused, unpack
from headrace.identity.accounts import Account, Accounts
from headrace.identity.cache import TokenCache
from headrace.identity.identities import Identities, operators_policy
from headrace.identity.values import IdentityError, ServiceAccount
from headrace.source.oci.credentials import Access, Credential, Keychain, keychain_for
from headrace.source.oci.errors import NotFound, OciError
from headrace.source.oci.layers import select_layer
from headrace.source.oci.manifest import Manifest
from headrace.source.oci.reference import (
    SCHEME,
    ReferenceRefused,
    Repository,
    is_digest,
    parse_reference,
    parse_url,
)
from headrace.source.oci.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How registries are reached. `creds` is `user:password`, or a token of the registry alone; without it those count
    that Docker keeps. `provider` is a cloud whose identity in the environment is used in place of both."""

    creds: str = field(default="", repr=False)
    provider: str = GENERIC
    insecure: bool = False
    timeout: float


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact of a registry: its digest, and its manifest."""

    digest: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Remote:
    """One repository, and the identity by which it is used."""

    registry: Registry
    repository: Repository
    access: Access
    timeout: float

    async def artifact(self, reference: str) -> Artifact:
        """What a tag or digest names now. Raises OciError."""
        found = await self.registry.resolve(self.repository, reference, self.access, timeout=self.timeout)
        manifest = await self.registry.image(self.repository, found.digest, self.access, timeout=self.timeout)
        return Artifact(found.digest, manifest)

    async def extract(self, artifact: Artifact, directory: Path) -> None:
        """Unpack the content of an artifact below a directory. Raises OciError, ArchiveRefused, OSError."""
        layer = select_layer(artifact.manifest)
        with TemporaryFile(prefix="headrace-") as file:
            await self.registry.blob(self.repository, layer, file, self.access, timeout=self.timeout)
            await asyncio.to_thread(unpack, file, directory)


def parse_artifact(url: str) -> tuple[Repository, str]:
    """The repository and the tag or digest of a URL, `latest` without one. Raises CommandError."""
    with _usage():
        if not url.startswith(SCHEME):
            raise ReferenceRefused(f"URL must be in format '{SCHEME}<domain>/<org>/<repo>:<tag>'")
        return parse_reference(url)


def parse_tagged(url: str) -> tuple[Repository, str]:
    """The repository and the tag of a URL that something is written to. Raises CommandError."""
    repository, reference = parse_artifact(url)
    if is_digest(reference):
        raise CommandError("URL must name a tag, not a digest", USAGE)
    return repository, reference


def parse_untagged(url: str) -> Repository:
    """The repository of a URL without tag. Raises CommandError."""
    with _usage():
        return parse_url(url)


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except ReferenceRefused as error:
        raise CommandError(str(error), USAGE) from None


@contextlib.asynccontextmanager
async def connected(repository: Repository, login: Login) -> AsyncIterator[Remote]:
    """A repository while the context is open. What goes wrong with it, or takes too long, leaves as CommandError."""
    egress = Egress(EgressPolicy(allow_loopback=True), user_agent="headrace-cli")
    try:
        with _told():
            async with asyncio.timeout(login.timeout):
                chain = await _keychain(repository, login, egress)
                access = Access(keychain=chain, insecure=login.insecure)
                yield Remote(Registry(egress, SystemClock()), repository, access, login.timeout)
    finally:
        await egress.close()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise CommandError("it was not done when --timeout was over", TIMED_OUT) from None
    except NotFound as error:
        raise CommandError(str(error), NOT_FOUND) from None
    except (OciError, IdentityError, ArchiveRefused) as error:
        raise CommandError(str(error), FAILED) from None
    except OSError as error:
        raise CommandError(f"{error.filename or 'a temporary file'}: {error.strerror or error}", FAILED) from None


async def _keychain(repository: Repository, login: Login, egress: Egress) -> Keychain:
    if login.provider != GENERIC:
        action("logging in to registry with provider credentials")
        return keychain_for(repository, await _of_provider(repository, login.provider, egress))
    if login.creds:
        action("logging in to registry with credentials")
        return keychain_for(repository, credential_of(login.creds))
    return await docker_config.keychain(repository, os.environ)


def credential_of(creds: str) -> Credential:
    """What `--creds` says: `user:password`; without a colon it is a token that the registry takes as it is."""
    if any(ord(char) < 32 for char in creds):
        raise CommandError("--creds contains control characters", USAGE)
    username, colon, password = creds.partition(":")
    return Credential(username, password) if colon else Credential(registry_token=creds)


async def _of_provider(repository: Repository, provider: str, egress: Egress) -> Credential:
    operators = Egress(operators_policy(os.environ), user_agent="headrace-cli")
    clock = SystemClock()
    try:
        identities = Identities(_NoCluster(), operators, egress, os.environ, clock, TokenCache(clock))
        return Credential(*await identities.registry_credentials(provider, repository.host))
    finally:
        await operators.close()


class _NoCluster(Accounts):
    """The identity is that of the environment: no account of a cluster is ever asked for."""

    def __init__(self) -> None:
        """Connected to nothing."""

    async def get(self, account: ServiceAccount) -> Account:
        raise IdentityError(f"there is no cluster to ask for service account '{account}'")


def shown(text: str) -> str:
    """What a registry has said, fit for a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text[:1024])
