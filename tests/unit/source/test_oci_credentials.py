"""Pull secrets: what is read of them, and which repository which entry is for."""

from __future__ import annotations

import base64
import json

import pytest

from headrace.source.oci.challenge import Challenge, parse
from headrace.source.oci.credentials import ANONYMOUS, Access, Credential, Keychain, keychain_of
from headrace.source.oci.reference import Repository, parse_url


def secret(**auths: object) -> dict[str, bytes]:
    return {".dockerconfigjson": json.dumps({"auths": auths}).encode()}


def entry(user: str, password: str = "p") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def user_for(url: str, *secrets: dict[str, bytes]) -> str:
    return keychain_of(secrets).find(parse_url(url)).username


@pytest.mark.parametrize(
    ("name", "url", "is_for"),
    [
        ("ghcr.io", "oci://ghcr.io/org/app", True),
        ("https://ghcr.io/v2/", "oci://ghcr.io/org/app", True),
        ("GHCR.io", "oci://ghcr.io/org/app", True),
        ("ghcr.io/org", "oci://ghcr.io/org/app", True),
        ("ghcr.io/or", "oci://ghcr.io/org/app", False),
        ("ghcr.io:5000", "oci://ghcr.io/org/app", False),
        ("registry:5000", "oci://registry:5000/app", True),
        ("*.example.com", "oci://a.example.com/app", True),
        ("*.example.com", "oci://a.b.example.com/app", False),
        ("*.example.com", "oci://example.com/app", False),
        ("io", "oci://ghcr.io/app", False),
        ("ghcr.io.evil.example", "oci://ghcr.io/app", False),
        ("https://index.docker.io/v1/", "oci://docker.io/library/nginx", True),
        ("docker.io", "oci://org/app", True),
    ],
)
def test_an_entry_is_for_hosts_and_paths_like_its_name(name: str, url: str, is_for: bool) -> None:
    assert (user_for(url, secret(**{name: entry("me")})) == "me") is is_for


def test_the_most_exact_entry_of_a_secret_is_taken_and_earlier_secrets_come_first() -> None:
    first = secret(**{"ghcr.io": entry("host"), "ghcr.io/org": entry("org")})
    assert user_for("oci://ghcr.io/org/app", first) == "org"
    assert user_for("oci://ghcr.io/other/app", first, secret(**{"ghcr.io": entry("second")})) == "host"
    assert user_for("oci://quay.io/app", first) == ""


def test_all_forms_of_an_entry_are_read() -> None:
    legacy = {".dockercfg": json.dumps({"ghcr.io": {"username": "u", "password": "p:w"}}).encode()}
    repository = Repository("ghcr.io", "app")
    assert keychain_of([legacy]).find(repository) == Credential("u", "p:w")
    tokens = secret(**{"ghcr.io": {"identitytoken": "i", "registrytoken": "r"}})
    assert keychain_of([tokens]).find(repository) == Credential("", "", "i", "r")
    assert keychain_of([secret(**{"ghcr.io": entry("u", "p:w")})]).find(repository) == Credential("u", "p:w")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {".dockerconfigjson": b"no json hunter2"},
        {".dockerconfigjson": b'{"auths": ["hunter2"]}'},
        {".dockerconfigjson": b'{"auths": {"ghcr.io": "hunter2"}}'},
        {".dockerconfigjson": b'{"auths": {"ghcr.io": {"auth": "hunter2!"}}}'},
        secret(**{"ghcr.io": {"auth": base64.b64encode(b"hunter2").decode()}}),
        secret(**{"ghcr.io": {"username": "u", "password": "hunter2\r\nX: y"}}),
        {".dockerconfigjson": b"[" * 100_000},
    ],
)
def test_a_secret_of_no_use_is_refused_without_a_word_of_its_content(data: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="invalid secret") as caught:
        keychain_of([data])
    assert "hunter2" not in str(caught.value)


def test_passwords_are_in_no_representation() -> None:
    keychain = Keychain((("ghcr.io", Credential("u", "hunter2", "hunter2", "hunter2")),))
    assert "hunter2" not in repr(Access(keychain=keychain))


@pytest.mark.spec("SEC-49")
def test_other_credentials_are_another_identity() -> None:
    repository = Repository("ghcr.io", "app")
    made = [
        Access(keychain=Keychain((("ghcr.io", Credential(user, password)),))).identity(repository)
        for user, password in (("a", "bc"), ("ab", "c"), ("", ""))
    ]
    assert len(set(made)) == 3
    other = Access(keychain=Keychain((("quay.io", Credential("a", "bc")),)))
    assert other.identity(repository) == Access().identity(repository)
    assert other.credential(repository) == ANONYMOUS


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        (['Bearer realm="https://a/token",service="s",scope="repository:x:pull"'],
         Challenge("bearer", "https://a/token", "s", "repository:x:pull")),
        (["bearer realm=https://a/token , service = s"], Challenge("bearer", "https://a/token", "s")),
        (['Basic realm="x"', 'Bearer realm="https://a"'], Challenge("bearer", "https://a")),
        (['Basic realm="x", Bearer realm="https://a"'], Challenge("bearer", "https://a")),
        (["Basic"], Challenge("basic")),
        (['Bearer service="s"'], None),
        (["Negotiate"], None),
        (["", ",,,", '="'], None),
    ],
)  # fmt: skip
def test_the_best_way_to_authenticate_is_found(headers: list[str], challenge: Challenge | None) -> None:
    assert parse(headers) == challenge
