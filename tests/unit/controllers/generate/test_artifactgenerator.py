"""What an ArtifactGenerator refuses before it reads anything, and how it tells that its sources moved."""

from __future__ import annotations

import msgspec
import pytest

from headrace.api.artifactgenerator import ArtifactGenerator
from headrace.controllers.generate.sources import GeneratorPolicy, sources_digest, validate
from headrace.model.artifact import Artifact
from headrace.model.errors import Stalled


def generator(*namespaces: str) -> ArtifactGenerator:
    sources = [
        {"alias": f"s{n}", "kind": "GitRepository", "name": "app", **({"namespace": namespace} if namespace else {})}
        for n, namespace in enumerate(namespaces)
    ]
    artifacts = [{"name": "a", "copy": [{"from": "@s0/", "to": "@artifact/"}]}]
    content = {"metadata": {"name": "app", "namespace": "own"}, "spec": {"sources": sources, "artifacts": artifacts}}
    return msgspec.convert(content, ArtifactGenerator)


@pytest.mark.spec("SRC-AGN-02")
def test_sources_of_other_namespaces_are_denied_where_operators_say_so() -> None:
    with pytest.raises(Stalled) as caught:
        validate(generator("", "other"), GeneratorPolicy(no_cross_namespace_refs=True))
    assert caught.value.reason == "AccessDenied"
    assert caught.value.message == "cross-namespace reference to source GitRepository/other/app is not allowed"
    validate(generator("", "own"), GeneratorPolicy(no_cross_namespace_refs=True))
    validate(generator("", "other"), GeneratorPolicy())


def artifact(**changed: object) -> Artifact:
    known = {"path": "p", "url": "http://x/p", "revision": "main@sha1:1", "digest": "sha256:1"}
    return msgspec.convert(known | changed, Artifact)


def test_the_digest_of_sources_is_that_of_upstream_and_knows_no_origin() -> None:
    sources = {"b": artifact(), "a": artifact(digest="sha256:2")}
    # sha256 of "a=[digest=sha256:2,revision=main@sha1:1,url=http://x/p]|b=[digest=sha256:1,...]"
    digest = sources_digest(sources)
    assert digest == sources_digest(dict(reversed(sources.items())))
    assert digest == "sha256:933f12f3ec44d01b3be76e496b92a4d0fa08cbd30147a70cc401a09322d0a0f6"
    origin = {"org.opencontainers.image.revision": "other"}
    assert sources_digest(sources | {"b": artifact(metadata=origin)}) == digest
    assert sources_digest(sources | {"b": artifact(revision="main@sha1:2")}) != digest
