"""The generated CRDs are structural, fresh, and declare what upstream declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import headrace.api
from headrace.api import crd, crds
from headrace.api.kinds import GIT_REPOSITORY, KINDS, KUSTOMIZATION, KindInfo

CRD_DIRECTORY = Path(headrace.api.__file__).parent / "crds"
DURATION = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"


def schema_at(kind: KindInfo[Any], *path: str, version: int = 0) -> dict[str, Any]:
    """The schema at a path of field names; `[]` steps into the items of a list."""
    node = crd.generate(kind)["spec"]["versions"][version]["schema"]["openAPIV3Schema"]
    for step in path:
        node = node["items"] if step == "[]" else node["properties"][step]
    return node


def walk(node: dict[str, Any], path: str = ""):
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")


def columns(kind: KindInfo[Any], version: int = 0) -> list[str]:
    return [column["name"] for column in crd.generate(kind)["spec"]["versions"][version]["additionalPrinterColumns"]]


def test_checked_in_files_are_fresh():
    assert crd.stale(CRD_DIRECTORY) == []


def test_a_changed_file_a_missing_one_and_a_foreign_one_are_stale(tmp_path):
    assert crd.main([str(tmp_path)]) == 0
    first, second, *_ = sorted(crd.files())
    (tmp_path / first).write_text("changed")
    (tmp_path / second).unlink()
    (tmp_path / "foreign.yaml").write_text("")
    assert crd.stale(tmp_path) == sorted(["foreign.yaml", first, second])
    assert crd.main(["--check", str(tmp_path)]) == 1
    assert crd.main([str(tmp_path)]) == 0
    assert crd.main(["--check", str(tmp_path)]) == 0


def test_the_package_holds_one_document_per_kind():
    names = {yaml.safe_load(document)["metadata"]["name"] for document in crds()}
    assert names == {kind.crd_name for kind in KINDS.values()}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.kind)
class TestEveryKind:
    def test_schema_is_structural(self, kind):
        for path, node in walk(schema_at(kind)):
            assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields"), path
            assert "$ref" not in node, path

    def test_every_field_that_users_write_is_described(self, kind):
        for path, node in walk(schema_at(kind, "spec"), ".spec"):
            if not path.endswith("[]"):
                assert node.get("description"), path

    def test_exactly_one_version_is_stored_and_the_others_are_deprecated(self, kind):
        stored, *others = crd.generate(kind)["spec"]["versions"]
        assert stored["storage"]
        assert "deprecated" not in stored
        assert all(version["deprecated"] and not version["storage"] and version["served"] for version in others)

    def test_all_versions_share_the_union_schema(self, kind):
        schemas = [version["schema"] for version in crd.generate(kind)["spec"]["versions"]]
        assert all(schema == schemas[0] for schema in schemas)
        assert crd.generate(kind)["spec"]["conversion"] == {"strategy": "None"}

    def test_status_is_a_subresource_that_starts_unobserved(self, kind):
        assert crd.generate(kind)["spec"]["versions"][0]["subresources"] == {"status": {}}
        wanted = {"observedGeneration": -1} if kind.observes_generation else None
        assert schema_at(kind, "status").get("default") == wanted
        assert ("observedGeneration" in schema_at(kind, "status")["properties"]) == kind.observes_generation

    def test_delivering_the_crd_itself_substitutes_nothing(self, kind):
        assert crd.generate(kind)["metadata"]["annotations"] == {"kustomize.toolkit.fluxcd.io/substitute": "disabled"}


def test_names_of_gitrepository_are_upstreams():
    names = crd.generate(GIT_REPOSITORY)["spec"]["names"]
    assert names["shortNames"] == ["gitrepo"]
    assert names["categories"] == ["all", "fluxcd", "fluxcd-sources"]
    assert columns(GIT_REPOSITORY) == ["URL", "Age", "Ready", "Status"]


def test_names_of_kustomization_are_upstreams():
    names = crd.generate(KUSTOMIZATION)["spec"]["names"]
    assert names["shortNames"] == ["ks"]
    assert names["categories"] == ["all", "fluxcd", "fluxcd-appliers"]
    assert columns(KUSTOMIZATION) == ["Age", "Ready", "Status"]
    assert columns(KUSTOMIZATION, version=2) == ["Ready", "Status", "Age"]


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        pytest.param(KUSTOMIZATION, "spec.interval", {"pattern": DURATION}, id="interval"),
        pytest.param(KUSTOMIZATION, "spec.targetNamespace", {"minLength": 1, "maxLength": 63}, id="target namespace"),
        pytest.param(KUSTOMIZATION, "spec.namePrefix", {"minLength": 1, "maxLength": 200}, id="prefix"),
        pytest.param(KUSTOMIZATION, "spec.force", {"type": "boolean", "default": False}, id="force"),
        pytest.param(KUSTOMIZATION, "spec.decryption.provider", {"enum": ["sops"]}, id="decryption provider"),
        pytest.param(
            KUSTOMIZATION, "spec.sourceRef.kind",
            {"enum": ["OCIRepository", "GitRepository", "Bucket", "ExternalArtifact"]}, id="source kind",
        ),
        pytest.param(KUSTOMIZATION, "spec.postBuild.substituteFrom.[].optional", {"default": False}, id="optional"),
        pytest.param(KUSTOMIZATION, "spec.postBuild.substituteFrom.[].name", {"maxLength": 253}, id="variables"),
        pytest.param(
            KUSTOMIZATION, "spec.buildMetadata.[]", {"enum": ["originAnnotations", "transformerAnnotations"]},
            id="build metadata",
        ),
        pytest.param(
            KUSTOMIZATION, "spec.patchesStrategicMerge.[]", {"x-kubernetes-preserve-unknown-fields": True},
            id="legacy patch",
        ),
        pytest.param(KUSTOMIZATION, "status.conditions.[].message", {"maxLength": 32768}, id="message"),
        pytest.param(KUSTOMIZATION, "status.history.[].totalReconciliations", {"format": "int64"}, id="count"),
        pytest.param(GIT_REPOSITORY, "spec.url", {"pattern": "^(http|https|ssh)://.*$"}, id="url"),
        pytest.param(
            GIT_REPOSITORY, "spec.timeout", {"pattern": DURATION.replace("|h", ""), "default": "60s"}, id="timeout"
        ),
        pytest.param(GIT_REPOSITORY, "spec.verify.mode", {"default": "HEAD"}, id="verification"),
        pytest.param(GIT_REPOSITORY, "spec.provider", {"enum": ["generic", "aws", "azure", "github"]}, id="provider"),
    ],
)
def test_validation_is_upstreams(kind: KindInfo[Any], path: str, expected: dict[str, Any]):
    assert expected.items() <= schema_at(kind, *path.split(".")).items()


@pytest.mark.parametrize(
    ("kind", "path", "required"),
    [
        pytest.param(KUSTOMIZATION, "spec", ["interval", "prune", "sourceRef"], id="Kustomization"),
        pytest.param(KUSTOMIZATION, "spec.healthCheckExprs.[]", ["apiVersion", "current"], id="health expression"),
        pytest.param(KUSTOMIZATION, "status.inventory.entries.[]", ["id", "v"], id="inventory"),
        pytest.param(GIT_REPOSITORY, "spec", ["interval", "url"], id="GitRepository"),
        pytest.param(
            GIT_REPOSITORY, "status.artifact", ["digest", "lastUpdateTime", "path", "revision", "url"], id="artifact"
        ),
    ],
)
def test_required_fields_are_upstreams(kind: KindInfo[Any], path: str, required: list[str]):
    assert schema_at(kind, *path.split("."))["required"] == required


def test_kubeconfig_needs_exactly_one_reference():
    rules = schema_at(KUSTOMIZATION, "spec", "kubeConfig")["x-kubernetes-validations"]
    assert [rule["rule"] for rule in rules] == [
        "has(self.configMapRef) || has(self.secretRef)",
        "!has(self.configMapRef) || !has(self.secretRef)",
    ]


def test_legacy_fields_are_in_the_stored_schema():
    assert {"patchesJson6902", "patchesStrategicMerge", "validation"} <= schema_at(KUSTOMIZATION, "spec")[
        "properties"
    ].keys()
    assert {"gitImplementation", "accessFrom"} <= schema_at(GIT_REPOSITORY, "spec")["properties"].keys()


PRINTED = {
    "GitRepository": "URL Age Ready Status",
    "OCIRepository": "URL Ready Status Age",
    "HelmRepository": "URL Age Ready Status",
    "HelmChart": "Chart Version Source-Kind Source-Name Age Ready Status",
    "Bucket": "Endpoint Age Ready Status",
    "ExternalArtifact": "Age Ready Status Source",
    "ArtifactGenerator": "Age Ready Status",
}
"""Printer columns of the sources, in order (sources.md section 2)."""


@pytest.mark.spec("SRC-OPS-06")
@pytest.mark.parametrize("kind", [k for k in KINDS.values() if "fluxcd-sources" in k.categories], ids=lambda k: k.kind)
def test_sources_are_printed_in_the_columns_of_upstream(kind):
    assert [name.replace(" ", "-") for name in columns(kind)] == PRINTED[kind.kind].split()
