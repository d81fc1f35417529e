"""Which credentials commands use for a registry, and which URLs they take."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from headrace.cli.artifact import docker_config
from headrace.cli.artifact.registries import credential_of, parse_artifact, parse_tagged, parse_untagged, shown
from headrace.cli.exits import CommandError
from headrace.source.oci.credentials import Credential
from headrace.source.oci.reference import DOCKER_HUB, Repository

GHCR = Repository("ghcr.io", "org/app")


def written(directory: Path, name: str, config: object) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def entry(password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"user:{password}".encode()).decode()}


def helper(directory: Path, name: str, script: str) -> dict[str, str]:
    """The environment in which `docker-credential-<name>` is found."""
    program = written(directory, f"bin/docker-credential-{name}", f"#!/bin/sh\nread server\n{script}\n")
    program.chmod(0o755)
    return {"HOME": str(directory), "PATH": f"{program.parent}:/usr/bin:/bin"}


def test_the_configuration_of_docker_goes_before_that_of_podman(tmp_path: Path) -> None:
    podman = written(tmp_path, "run/containers/auth.json", {})
    environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    assert docker_config.config_file({}) is None
    assert docker_config.config_file(environment) == podman
    named = written(tmp_path, "named.json", {})
    environment["REGISTRY_AUTH_FILE"] = str(named)
    assert docker_config.config_file(environment) == named
    own = written(tmp_path, ".docker/config.json", {})
    assert docker_config.config_file(environment) == own
    other = written(tmp_path, "other/config.json", {})
    assert docker_config.config_file(environment | {"DOCKER_CONFIG": str(tmp_path / "other")}) == other


async def test_without_a_configuration_there_are_no_credentials(tmp_path: Path) -> None:
    assert (await docker_config.keychain(GHCR, {"HOME": str(tmp_path)})).find(GHCR).is_anonymous


async def test_credentials_go_only_to_the_registry_that_they_are_for(tmp_path: Path) -> None:
    written(tmp_path, ".docker/config.json", {"auths": {"https://ghcr.io": entry("one"), "quay.io": entry("two")}})
    found = await docker_config.keychain(GHCR, {"HOME": str(tmp_path)})
    assert found.find(GHCR).password == "one"
    assert found.find(Repository("ghcr.io:5000", "org/app")).is_anonymous


async def test_a_helper_of_the_registry_goes_before_the_store_and_the_file(tmp_path: Path) -> None:
    environment = helper(tmp_path, "own", 'echo \'{"Username": "<token>", "Secret": "t"}\'')
    config = {"auths": {"ghcr.io": entry("file")}, "credHelpers": {"ghcr.io": "own"}, "credsStore": "missing"}
    written(tmp_path, ".docker/config.json", config)
    found = (await docker_config.keychain(GHCR, environment)).find(GHCR)
    assert found == Credential(identity_token="t")


async def test_a_helper_that_has_nothing_leaves_it_to_the_file(tmp_path: Path) -> None:
    environment = helper(tmp_path, "store", "echo credentials not found in native keychain; exit 1")
    written(tmp_path, ".docker/config.json", {"auths": {"ghcr.io": entry("file")}, "credsStore": "store"})
    assert (await docker_config.keychain(GHCR, environment)).find(GHCR).password == "file"


async def test_docker_hub_is_asked_for_by_the_name_that_docker_gives_it(tmp_path: Path) -> None:
    script = 'case $server in https://index.docker.io/v1/) echo \'{"Username": "u", "Secret": "s"}\';; *) exit 9;; esac'
    environment = helper(tmp_path, "hub", script)
    hub = Repository(DOCKER_HUB, "library/app")
    for config in ({"credsStore": "hub"}, {"credHelpers": {"https://index.docker.io/v1/": "hub"}}):
        written(tmp_path, ".docker/config.json", config)
        assert (await docker_config.keychain(hub, environment)).find(hub) == Credential("u", "s")


@pytest.mark.parametrize(
    ("config", "script", "wanted"),
    [
        pytest.param("{", "", "is no JSON object", id="no JSON"),
        pytest.param({"auths": {"ghcr.io": {"auth": "c2VjcmV0"}}}, "", "holds no user and password", id="auth"),
        pytest.param({"credsStore": 1}, "", "config.json'", id="type"),
        pytest.param({"credsStore": "../x"}, "", "is no name of a credential helper", id="path"),
        pytest.param({"credsStore": "missing"}, "", "docker-credential-missing", id="missing"),
        pytest.param({"credsStore": "own"}, "echo secret; exit 2", "failed with exit code 2", id="failed"),
        pytest.param({"credsStore": "own"}, "echo secret", "gave no answer that can be read", id="garbage"),
    ],
)
async def test_what_cannot_be_used_is_told_without_a_secret(
    tmp_path: Path, config: object, script: str, wanted: str
) -> None:
    environment = helper(tmp_path, "own", script)
    written(tmp_path, ".docker/config.json", config)
    with pytest.raises(CommandError) as raised:
        await docker_config.keychain(GHCR, environment)
    assert wanted in raised.value.message
    assert "secret" not in raised.value.message.replace("credential", "")


def test_creds_are_a_user_and_a_password_or_a_token() -> None:
    assert credential_of("user:pass:word") == Credential("user", "pass:word")
    assert credential_of("token") == Credential(registry_token="token")
    with pytest.raises(CommandError):
        credential_of("user:pass\r\nX: y")


def test_urls_name_a_tag_a_digest_or_neither() -> None:
    digest = "sha256:" + "a" * 64
    assert parse_artifact("oci://ghcr.io/org/app:v1") == (GHCR, "v1")
    assert parse_artifact("oci://ghcr.io/org/app") == (GHCR, "latest")
    assert parse_artifact(f"oci://ghcr.io/org/app:v1@{digest}") == (GHCR, digest)
    assert parse_untagged("oci://ghcr.io/org/app") == GHCR
    for wrong in ("ghcr.io/org/app:v1", "https://ghcr.io/org/app", "oci://user:hidden@ghcr.io/org/app"):
        with pytest.raises(CommandError) as raised:
            parse_artifact(wrong)
        assert "hidden" not in raised.value.message
    with pytest.raises(CommandError):
        parse_tagged(f"oci://ghcr.io/org/app@{digest}")
    with pytest.raises(CommandError):
        parse_untagged("oci://ghcr.io/org/app:v1")


def test_what_registries_say_moves_no_cursor() -> None:
    assert shown("a\x1b[2Jb\n") == "a?[2Jb?"
