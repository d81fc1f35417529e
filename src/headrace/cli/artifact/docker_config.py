"""Credentials of this user for registries, from where Docker and Podman keep them, credential helpers included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from headrace.cli.exits import FAILED, USAGE, CommandError
from headrace.core.limits import MIB, ProcessLimits
from headrace.core.sandbox import SandboxError, run
from headrace.source.oci.credentials import CONFIG_JSON, Credential, Keychain, keychain_for, keychain_of
from headrace.source.oci.reference import DOCKER_HUB, Repository

_DOCKER_HUB_KEYS = ("https://index.docker.io/v1/", "docker.io")
_PROGRAM = "docker-credential-"
_TIMEOUT = 60.0
_ANSWER = MIB
_NOT_FOUND = b"credentials not found"
_TOKEN = "<token>"  # noqa: S105 - what helpers put in place of a user where the secret is an identity token


class _Config(msgspec.Struct, frozen=True, rename="camel"):
    cred_helpers: dict[str, str] | None = None
    creds_store: str = ""


class _Answer(msgspec.Struct, frozen=True):
    username: str = msgspec.field(name="Username", default="")
    secret: str = msgspec.field(name="Secret", default="")


def config_file(environment: Mapping[str, str]) -> Path | None:
    """The configuration that counts: Docker's, else Podman's; None when there is neither."""
    home = environment.get("HOME", "")
    places = [
        _below(environment.get("DOCKER_CONFIG", "") or (home and f"{home}/.docker"), "config.json"),
        _below(environment.get("REGISTRY_AUTH_FILE", ""), ""),
        _below(environment.get("XDG_RUNTIME_DIR", ""), "containers/auth.json"),
    ]
    return next((place for place in places if place is not None and place.is_file()), None)


def _below(directory: str, name: str) -> Path | None:
    return Path(directory, name) if directory else None


async def keychain(repository: Repository, environment: Mapping[str, str]) -> Keychain:
    """The credentials for a repository: of the helper that is configured for its registry, else of the file itself.

    Raises CommandError, never with a credential in it.
    """
    file = config_file(environment)
    if file is None:
        return Keychain()
    try:
        data = file.read_bytes()
        written = keychain_of([{CONFIG_JSON: data}])
        config = msgspec.json.decode(data, type=_Config)
    except OSError as error:
        raise CommandError(f"'{file}' cannot be read: {error.strerror}", USAGE) from None
    except ValueError as error:  # msgspec's too
        raise CommandError(f"'{file}': {str(error).removeprefix('invalid secret: ')}", USAGE) from None
    helper = _helper(config, repository)
    told = await _ask(helper, repository, environment) if helper else None
    return keychain_for(repository, told) if told else written


def _helper(config: _Config, repository: Repository) -> str:
    helpers = config.cred_helpers or {}
    names = (repository.host, *(_DOCKER_HUB_KEYS if repository.host == DOCKER_HUB else ()))
    return next((helpers[name] for name in names if name in helpers), config.creds_store)


async def _ask(helper: str, repository: Repository, environment: Mapping[str, str]) -> Credential | None:
    """What the program `docker-credential-<helper>` has for the registry; None when it has nothing.

    It is the user's own and gets the user's environment. What it writes is shown to nobody.
    """
    program = f"{_PROGRAM}{helper}"
    if "/" in helper:
        raise CommandError(f"'{helper}' is no name of a credential helper", USAGE)
    server = _DOCKER_HUB_KEYS[0] if repository.host == DOCKER_HUB else repository.host
    try:
        done = await run([program, "get"], stdin=server.encode(), env=environment, timeout=_TIMEOUT,
                         output_limit=_ANSWER, limits=ProcessLimits(memory_bytes=0))  # fmt: skip
    except SandboxError as error:
        raise CommandError(f"credential helper '{program}': {error}", FAILED) from None
    if done.code != 0:
        if _NOT_FOUND in done.stdout + done.stderr:
            return None
        raise CommandError(f"credential helper '{program}' failed with exit code {done.code}", FAILED)
    try:
        answer = msgspec.json.decode(done.stdout, type=_Answer)
    except ValueError:
        raise CommandError(f"credential helper '{program}' gave no answer that can be read", FAILED) from None
    if answer.username == _TOKEN:
        return Credential(identity_token=answer.secret)
    return Credential(answer.username, answer.secret)
