from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.kustomization import Kustomization
from headrace.model.artifact import Tree
from headrace.model.errors import Retry
from headrace.render.kustomize import RenderOptions, build_failure, build_request, render
from headrace.toolbox import BuildKeys, BuildRequest, Built, Toolbox, ToolboxError

TREE = Tree(Path("/tree"), "digest")
LABELS = {"kustomize.toolkit.fluxcd.io/name": "app", "kustomize.toolkit.fluxcd.io/namespace": "default"}
OPTIONS = RenderOptions(labels=LABELS)


def kustomization(**spec: Any) -> Kustomization:
    content = {"metadata": {"name": "app", "namespace": "default"},
               "spec": {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "app"}} | spec}
    return msgspec.json.decode(msgspec.json.encode(content), type=Kustomization)


def test_every_field_that_shapes_the_build_is_passed_on() -> None:
    spec = {
        "targetNamespace": "ns", "namePrefix": "p-", "nameSuffix": "-s", "components": ["../c"],
        "ignoreMissingComponents": True, "buildMetadata": ["originAnnotations"],
        "images": [{"name": "a", "newName": "b", "newTag": "1", "digest": "sha256:1"}],
        "patches": [{"patch": "x", "target": {"kind": "Deployment", "labelSelector": "a=b"}}],
        "patchesStrategicMerge": [{"kind": "Deployment"}],
        "patchesJson6902": [{"patch": [{"op": "move", "path": "/a", "from": "/b"}], "target": {"kind": "X"}}],
        "commonMetadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
    }
    request = msgspec.to_builtins(build_request(TREE, kustomization(path="./apps", **spec), {}, OPTIONS))
    assert (request["root"], request["path"], request["labels"]) == ("/tree", "./apps", LABELS)
    passed = request["spec"]
    assert {key: passed[key] for key in spec if key != "patchesJson6902"} == {
        key: value for key, value in spec.items() if key != "patchesJson6902"}
    [operation] = passed["patchesJson6902"][0]["patch"]
    assert operation.items() >= {"op": "move", "path": "/a", "from": "/b"}.items()


@pytest.mark.spec("KS-SUB-07")
def test_substitution_is_asked_for_with_post_build_only() -> None:
    assert build_request(TREE, kustomization(), {}, OPTIONS).substitute is None
    asked = build_request(TREE, kustomization(postBuild={"substituteStrategy": "Always"}), {"a": "b"}, OPTIONS)
    assert asked.substitute is not None
    assert (asked.substitute.always, asked.substitute.variables, asked.substitute.strict) == (True, {"a": "b"}, True)


@pytest.mark.parametrize(
    ("code", "reason"),
    [("PathNotFound", "ArtifactFailed"), ("InvalidYAML", "BuildFailed"), ("LimitExceeded", "BuildFailed"),
     ("Timeout", "BuildFailed"), ("Panic", "BuildFailed"), ("Crashed", "BuildFailed")],
)
def test_a_failure_has_the_reason_of_its_code(code: str, reason: str) -> None:
    assert build_failure(ToolboxError(code, "boom")).reason == reason


def test_a_failure_names_file_and_object_once() -> None:
    error = build_failure(ToolboxError("BuildFailed", "no good", file="a.yaml", object="ConfigMap/a"))
    assert error.message == "no good (from ConfigMap/a, a.yaml)"
    assert build_failure(ToolboxError("BuildFailed", "a.yaml: no good", file="a.yaml")).message == "a.yaml: no good"


async def test_a_built_object_carries_owner_labels_its_file_and_the_cluster(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\n")
    options = RenderOptions(labels=LABELS, cluster="remote-1")
    async with Toolbox(size=1) as toolbox:
        manifests = await render(toolbox, Tree(tmp_path, "d"), kustomization(), {}, options)
    [manifest] = manifests.items
    assert msgspec.json.decode(manifest.body)["metadata"]["labels"] == LABELS
    assert (manifest.file, manifest.reference.cluster, manifest.version) == ("a.yaml", "remote-1", "v1")


async def test_a_missing_path_is_an_artifact_that_failed(tmp_path: Path) -> None:
    async with Toolbox(size=1) as toolbox:
        with pytest.raises(Retry) as raised:
            await render(toolbox, Tree(tmp_path, "d"), kustomization(path="absent"), {}, OPTIONS)
    assert raised.value.reason == "ArtifactFailed"
    assert raised.value.message == "kustomization path not found: absent"


class OutOfTime:
    """A builder that does not make it."""

    timeout: float | None = 0.0

    async def build(
        self, request: BuildRequest, *, keys: BuildKeys | None = None, timeout: float | None = None
    ) -> Built:
        self.timeout = timeout
        raise ToolboxError("Timeout", "build took longer than 1m0s")


@pytest.mark.parametrize(("stated", "timeout"), [("", None), ("30s", None), ("2m", 120.0), ("1h", 300.0)])
async def test_a_build_may_take_as_long_as_the_object_says_within_limits(stated: str, timeout: float | None) -> None:
    builder = OutOfTime()
    with pytest.raises(Retry, match=r"longer than 1m0s: deliver by several Kustomizations, .* up to 5m0s") as raised:
        await render(builder, TREE, kustomization(timeout=stated), {}, OPTIONS)
    assert builder.timeout == timeout
    assert raised.value.reason == "BuildFailed"
