"""`headrace trace`, `create source` and `export source` against a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.delivered import Delivered, config_map, delivered
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def there(cluster: ControlPlane, tmp_path: Path) -> Iterator[Delivered]:
    with delivered(cluster, tmp_path) as found:
        yield found


def blocks(text: str) -> list[dict[str, str]]:
    """What each block says, by its titles."""
    return [
        {title: value.strip() for title, _, value in (line.partition(":") for line in block.splitlines())}
        for block in text.split("---\n")
    ]


def test_an_object_is_traced_to_the_revision_of_its_source(there: Delivered) -> None:
    there.apply(config_map("cm", {"k": "1"}))
    there.kustomization("cm__ConfigMap")
    there.artifact("http://127.0.0.1:1", there.directory.parent)
    done = there.headrace("trace", "configmap", "cm", "-n", there.namespace)
    found = blocks(done.ok())
    assert [next(iter(block)) for block in found] == ["Object", "Kustomization", "GitRepository"]
    assert found[0]["Object"] == "ConfigMap/cm"
    assert found[0]["Status"] == "Managed by Flux"
    assert (found[1]["Path"], found[1]["Target"]) == ("./apps", there.namespace)
    assert (found[2]["URL"], found[2]["Revision"]) == ("https://git.invalid/app", "main@sha1:abc")


def test_labels_alone_do_not_make_an_object_managed(there: Delivered) -> None:
    there.apply(config_map("stray", {"k": "1"}))
    there.kustomization()
    done = there.headrace("trace", "cm/stray", "-n", there.namespace)
    assert "in no inventory" in blocks(done.ok())[0]["Status"]


def test_what_nobody_delivers_cannot_be_traced(there: Delivered) -> None:
    there.kubectl("create", "configmap", "own")
    done = there.headrace("trace", "configmap", "own", "-n", there.namespace)
    assert done.code == 4
    assert "is not delivered" in done.err


def test_a_source_is_made_exported_and_made_again_from_its_export(there: Delivered) -> None:
    words = ("create", "source", "git", "made", "--url=https://git.invalid/x", "--branch=main", "-n", there.namespace)
    printed = there.headrace(*words, "--export").ok()
    assert there.headrace(*words, "--timeout=1s").code == 5, "no engine serves this cluster"
    exported = there.headrace("export", "source", "git", "made", "-n", there.namespace).ok()
    assert exported.replace("  timeout: 60s\n", "") == printed, "but for what the API server fills in"
    there.kubectl("delete", "gitrepository", "made")
    there.kubectl("apply", "-f", "-", stdin=exported)
    every = there.headrace("export", "source", "git", "--all", "-n", there.namespace).ok()
    assert [content["metadata"]["name"] for content in yaml.safe_load_all(every)] == ["made"]
    assert there.headrace("export", "source", "git", "none", "-n", there.namespace).code == 4
    assert there.headrace("export", "source", "git", "-n", there.namespace).code == 2
