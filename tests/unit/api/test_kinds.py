"""The Structs decode what users write and what other versions stored, and give it back unharmed."""

from __future__ import annotations

import msgspec
import pytest

from headrace.api.gitrepository import GitRepository, GitRepositorySpec
from headrace.api.kinds import GIT_REPOSITORY, KINDS, KUSTOMIZATION
from headrace.api.kustomization import Kustomization, KustomizationSpec, SourceReference
from headrace.model.objects import Metadata


def decode_kustomization(spec: dict[str, object], **status: object) -> Kustomization:
    base = {"sourceRef": {"kind": "GitRepository", "name": "app"}, "interval": "1m", "prune": True}
    content = {"metadata": {"name": "a", "namespace": "b"}, "spec": base | spec, "status": status}
    return msgspec.json.decode(msgspec.json.encode(content), type=Kustomization)


def test_every_kind_is_registered_by_group_and_kind():
    assert KINDS["source.toolkit.fluxcd.io", "GitRepository"] is GIT_REPOSITORY
    assert KINDS["kustomize.toolkit.fluxcd.io", "Kustomization"] is KUSTOMIZATION


def test_unknown_fields_are_ignored():
    kustomization = decode_kustomization({"someday": {"x": 1}}, someday=2)
    assert kustomization.spec.source_ref == SourceReference(kind="GitRepository", name="app")


def test_object_without_status_decodes():
    raw = b'{"metadata":{"name":"a"},"spec":{"url":"https://git.example/x","interval":"1m"}}'
    assert msgspec.json.decode(raw, type=GitRepository).status.artifact is None


@pytest.mark.parametrize(
    ("name", "value", "attribute"),
    [
        pytest.param("healthCheckExprs", [{"apiVersion": "a/v1", "current": "true"}], "health_check_exprs", id="expr"),
        pytest.param("kubeConfig", {"secretRef": {"name": "k", "namespace": "b"}}, "kube_config", id="kubeconfig"),
        pytest.param("patchesStrategicMerge", [{"kind": "X"}], "patches_strategic_merge", id="legacy merge patches"),
        pytest.param(
            "patchesJson6902",
            [{"target": {"kind": "X"}, "patch": [{"op": "move", "from": "/a", "path": "/b"}]}],
            "patches_json6902",
            id="legacy JSON patches",
        ),
        pytest.param("postBuild", {"substituteFrom": [{"kind": "Secret", "name": "s"}]}, "post_build", id="postBuild"),
        pytest.param("lastly", "", "validation", id="absent field"),
    ],
)
def test_fields_have_the_names_that_users_write(name: str, value: object, attribute: str):
    spec = decode_kustomization({name: value}).spec
    default = getattr(decode_kustomization({}).spec, attribute)
    assert (getattr(spec, attribute) == default) == (name == "lastly")


def test_legacy_patch_values_stay_as_they_were_written():
    patch = {"target": {"kind": "X"}, "patch": [{"op": "add", "path": "/a", "value": {"b": [1, 2.50]}}]}
    (decoded,) = decode_kustomization({"patchesJson6902": [patch]}).spec.patches_json6902
    assert bytes(decoded.patch[0].value) == b'{"b":[1,2.5]}'


def test_manifest_carries_version_and_kind_but_no_status_and_no_defaults():
    spec = KustomizationSpec(SourceReference("GitRepository", "app"), interval="1m", prune=True)
    manifest = msgspec.json.decode(KUSTOMIZATION.manifest(Kustomization(Metadata(name="a", namespace="b"), spec)))
    assert manifest == {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {
            "sourceRef": {"kind": "GitRepository", "name": "app"}, "interval": "1m", "prune": True,
        },
    }


def test_manifest_decodes_to_what_it_was_made_from():
    repository = GitRepository(
        Metadata(name="a", namespace="b", labels={"x": "y"}),
        GitRepositorySpec(url="https://git.example/x", interval="1m", ignore="", sparse_checkout=("a",)),
    )
    assert msgspec.json.decode(GIT_REPOSITORY.manifest(repository), type=GitRepository) == repository


def test_reference_names_the_object_without_version():
    assert str(GIT_REPOSITORY.reference("b", "a")) == "GitRepository/b/a"
