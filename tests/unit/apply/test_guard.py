"""What strict tenancy refuses of single objects."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.apply.guard import OFF, Guard, holder_of
from headrace.model.manifests import Manifest
from headrace.model.objects import Metadata, OwnerReference
from headrace.model.reference import Reference

OWNER = "kustomize.toolkit.fluxcd.io"
OURS = {f"{OWNER}/name": "app", f"{OWNER}/namespace": "team"}
STRICT = Guard(ownership=True, recreation=True, tokens=True)


def manifest(kind: str = "ConfigMap", group: str = "", body: Any = None, **annotations: str) -> Manifest:
    return Manifest(Reference(group, kind, "team", "x"), "v1", msgspec.json.encode(body or {}), "d", labels=OURS,
                    annotations={key.replace("_", "-").replace("headrace-", "headrace.dev/"): value
                                 for key, value in annotations.items()})


@pytest.mark.spec("SEC-27")
@pytest.mark.parametrize(("live", "holder"), [
    pytest.param(Metadata(), "", id="nobody"),
    pytest.param(Metadata(labels=OURS), "", id="we"),
    pytest.param(Metadata(labels=OURS | {f"{OWNER}/name": "other"}), "", id="another one of the same tenant"),
    pytest.param(Metadata(labels=OURS | {f"{OWNER}/namespace": "them"}), "Kustomization/them/app", id="a neighbour"),
    pytest.param(Metadata(labels=OURS, annotations={"meta.helm.sh/release-name": "db"}), "", id="we, as Helm says too"),
    pytest.param(Metadata(owner_references=[OwnerReference("Job", "j", "u-1")]), "", id="an owner without control"),
    pytest.param(Metadata(owner_references=[OwnerReference("Job", "j", "u-1", controller=True)]),
                 "its controller Job/j", id="a controller"),
])
def test_who_holds_an_object(live: Metadata, holder: str) -> None:
    assert holder_of(manifest(), live) == holder
    assert bool(STRICT.conflict(manifest(), live)) is bool(holder)
    assert OFF.conflict(manifest(), live) == ""


def test_a_controller_that_the_manifest_names_itself_holds_nothing() -> None:
    owner = OwnerReference("Job", "j", "u-1", controller=True)
    wanted = manifest(body={"metadata": {"ownerReferences": [{"uid": "u-1"}]}})
    assert holder_of(wanted, Metadata(owner_references=[owner])) == ""


DATA = [("", "PersistentVolumeClaim"), ("", "PersistentVolume"), ("", "Namespace"),
        ("apiextensions.k8s.io", "CustomResourceDefinition")]


@pytest.mark.spec("SEC-55")
@pytest.mark.parametrize(("group", "kind"), DATA)
def test_what_holds_data_is_recreated_only_where_the_object_says_so(group: str, kind: str) -> None:
    assert STRICT.recreation_refused(manifest(kind, group), Metadata())
    assert STRICT.recreation_refused(manifest(kind, group, headrace_allow_data_loss="yes"), Metadata())
    assert not STRICT.recreation_refused(manifest(kind, group, headrace_allow_data_loss="true"), Metadata())
    assert not STRICT.recreation_refused(
        manifest(kind, group), Metadata(annotations={"headrace.dev/allow-data-loss": "True"}))
    assert not STRICT.recreation_refused(manifest("Deployment", "apps"), Metadata())
    assert not OFF.recreation_refused(manifest(kind, group), Metadata())


@pytest.mark.spec("SEC-28")
@pytest.mark.parametrize("kind", ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"])
def test_tokens_are_made_as_an_account_only(kind: str) -> None:
    secret = manifest("Secret", body={"type": kind})
    assert kind in STRICT.token_refused(secret, impersonated=False)
    assert not STRICT.token_refused(secret, impersonated=True)
    assert not STRICT.token_refused(manifest("Secret", body={"type": "Opaque"}), impersonated=False)
    assert not STRICT.token_refused(manifest(body={"type": kind}), impersonated=False)
    assert not OFF.token_refused(secret, impersonated=False)


@pytest.mark.spec("SEC-27")
@pytest.mark.parametrize(("ours", "theirs", "agreed"), [
    ("true", "team/app", True), ("true", "x/y, team/*", True), ("true", "team/other", False), ("true", "", False),
    ("true", "*", False), ("", "team/app", False), ("false", "team/app", False),
])
def test_a_takeover_needs_both_sides(ours: str, theirs: str, agreed: bool) -> None:
    live = Metadata(labels=OURS | {f"{OWNER}/namespace": "them"}, annotations={"headrace.dev/adoptable-by": theirs})
    assert (STRICT.conflict(manifest(headrace_adopt=ours), live) == "") is agreed
