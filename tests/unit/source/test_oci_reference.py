"""Names of repositories, tags and digests."""

from __future__ import annotations

import pytest

from headrace.source.oci.reference import (
    ReferenceRefused,
    Repository,
    check_digest,
    check_tag,
    parse_reference,
    parse_url,
)

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("oci://ghcr.io/org/app", "ghcr.io", "org/app"),
        ("oci://Registry.Example:5000/app", "registry.example:5000", "app"),
        ("oci://localhost/app", "localhost", "app"),
        ("oci://org/app", "index.docker.io", "org/app"),
        ("oci://docker.io/nginx", "index.docker.io", "library/nginx"),
        ("oci://[::1]:5000/a/b_c/d-e.f", "[::1]:5000", "a/b_c/d-e.f"),
    ],
)
def test_the_url_of_a_repository_has_a_host_and_a_path(url: str, host: str, path: str) -> None:
    assert parse_url(url) == Repository(host, path)


@pytest.mark.spec("SRC-OCI-06")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("oci://ghcr.io/org/app:v1", "must not contain a tag; remove ':v1'"),
        (f"oci://ghcr.io/org/app@{DIGEST}", "must not contain a digest"),
        ("https://ghcr.io/org/app", "must be in format"),
        ("oci://ghcr.io/Org/app", "no name of a repository"),
        ("oci://ghcr.io/../app", "no name of a repository"),
        ("oci://ghcr.io/a//b", "no name of a repository"),
        ("oci://ghcr.io/", "no name of a repository"),
        ("oci://user:pass@ghcr.io/app", "host or port"),
        ("oci://-x.io/app", "host or port"),
        ("oci://ghcr.io/app?x=1", "no name of a repository"),
        ("oci://ghcr.io/app\n", "no name of a repository"),
    ],
)
def test_anything_else_is_refused(url: str, said: str) -> None:
    with pytest.raises(ReferenceRefused, match=said):
        parse_url(url)


def test_a_reference_of_a_command_line_may_have_a_tag_a_digest_or_neither() -> None:
    repository = Repository("ghcr.io:443", "org/app")
    assert parse_reference("oci://ghcr.io:443/org/app") == (repository, "latest")
    assert parse_reference("ghcr.io:443/org/app:v1") == (repository, "v1")
    assert parse_reference(f"ghcr.io:443/org/app:v1@{DIGEST}") == (repository, DIGEST)


@pytest.mark.spec("SEC-33")
@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:abc", "md5:" + "a" * 32, "sha1:" + "a" * 40, DIGEST.upper(), DIGEST + "\n"]
)
def test_digests_that_prove_nothing_are_refused(digest: str) -> None:
    with pytest.raises(ReferenceRefused):
        check_digest(digest)


@pytest.mark.parametrize("tag", ["", ".x", "-x", "a/b", "a" * 129, "a b", "../x"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(ReferenceRefused):
        check_tag(tag)
