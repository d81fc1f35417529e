"""Attacks on other tenants under `--tenancy=strict`: identities, objects of others, kinds that give power, data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.engine.engine import Engine
from tests.attack.strict import CONFIG_MAPS, SECRETS, account, grant, put, rule, strict_engine
from tests.cluster.kustomization.world import World, condition, config_map
from tests.servers.control_plane import ControlPlane

Json = dict[str, Any]

# -- whose rights count ------------------------------------------------------------------------------------------------


@pytest.mark.spec("SEC-23")
@pytest.mark.parametrize("name", ["", None])
async def test_without_an_account_the_default_one_acts_and_never_the_engine(
    world: World, strict: Engine, name: str | None
) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, **({} if name is None else {"serviceAccountName": name}))

    ks = await world.failed(reason="ReconciliationFailed")

    assert f"system:serviceaccount:{world.namespace}:default" in condition(ks, "Ready")["message"]
    assert await world.get("v1", "ConfigMap", "a") is None

    await grant(world, "default", CONFIG_MAPS)
    await world.ready()


@pytest.mark.spec("SEC-23")
@pytest.mark.parametrize("name", [" ", "a:b", "system:masters", "system:admin", "default:x", "../default", "a\nb", "*"])
async def test_what_is_no_name_of_an_account_is_an_error_and_nobody(
    world: World, strict: Engine, name: str
) -> None:
    await grant(world, "default", CONFIG_MAPS)
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName=name)

    ks = await world.failed(reason="ReconciliationFailed")

    assert "invalid service account" in condition(ks, "Ready")["message"]
    assert await world.get("v1", "ConfigMap", "a") is None


@pytest.mark.spec("SEC-23")
async def test_pruning_and_deleting_are_done_as_the_account_too(world: World, strict: Engine) -> None:
    await account(world, "deployer")
    await grant(world, "deployer", rule([""], ["configmaps"], "get", "create", "patch"))
    world.commit({"a.yaml": config_map("a"), "b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName="deployer", retryInterval="1s")
    await world.ready()

    await world.push({"b.yaml": None})

    ks = await world.failed(reason="PruneFailed")
    assert f"system:serviceaccount:{world.namespace}:deployer" in condition(ks, "Ready")["message"]
    assert await world.get("v1", "ConfigMap", "b") is not None

    await world.delete(KUSTOMIZATION, "app")
    await world.until(KUSTOMIZATION, "app", lambda o: "delete failed" in condition(o, "Ready").get("message", ""))
    assert await world.get("v1", "ConfigMap", "a") is not None

    await grant(world, "deployer", CONFIG_MAPS)
    await world.until_gone(KUSTOMIZATION, "app")
    assert await world.get("v1", "ConfigMap", "a") is None


# -- kinds that give power ---------------------------------------------------------------------------------------------

SCOPE = {"scope": "Namespaced", "group": "evil.example.com", "names": {"kind": "Evil", "plural": "evils"},
         "versions": [{"name": "v1", "served": True, "storage": True,
                       "schema": {"openAPIV3Schema": {"type": "object"}}}]}
HOOK = {"name": "evil.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": "https://example.invalid/"},
        "rules": [{"apiGroups": ["nobody.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"],
                   "resources": ["none"]}]}
POWER: dict[str, tuple[str, Json]] = {
    "ClusterRole": ("rbac.authorization.k8s.io/v1", {"rules": [rule(["*"], ["*"])]}),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}}),
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", {"spec": SCOPE}),
    "Namespace": ("v1", {}),
    "ValidatingWebhookConfiguration": ("admissionregistration.k8s.io/v1", {"webhooks": [HOOK]}),
    "MutatingWebhookConfiguration": ("admissionregistration.k8s.io/v1", {"webhooks": [HOOK]}),
}


@pytest.mark.spec("SEC-28")
@pytest.mark.parametrize("kind", sorted(POWER))
async def test_the_rights_of_the_tenant_decide_about_kinds_that_give_power(
    world: World, strict: Engine, kind: str
) -> None:
    await grant(world, "default", rule(["*"], ["*"]))
    api_version, content = POWER[kind]
    name = "evils.evil.example.com" if kind == "CustomResourceDefinition" else f"evil-{world.namespace}"
    world.commit({"a.yaml": {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}} | content})
    await world.source()
    await world.kustomization()

    ks = await world.failed(reason="ReconciliationFailed", text="Forbidden")

    assert f"system:serviceaccount:{world.namespace}:default" in condition(ks, "Ready")["message"]
    assert await world.get(api_version, kind, name, namespace="") is None


@pytest.mark.spec("SEC-28")
async def test_a_role_is_no_way_to_rights_that_the_tenant_has_not(world: World, strict: Engine) -> None:
    await grant(world, "default", CONFIG_MAPS, rule(["rbac.authorization.k8s.io"], ["roles", "rolebindings"],
                                                    "get", "create", "patch"))
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "evil"},
            "rules": [rule([""], ["secrets"])]}
    world.commit({"a.yaml": role})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)

    await world.failed(reason="ReconciliationFailed", text="not currently held")


TOKENS = ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token")


@pytest.mark.spec("SEC-28")
@pytest.mark.parametrize("kind", TOKENS)
async def test_secrets_that_become_credentials_are_refused_where_the_engine_acts_itself(
    cluster: ControlPlane, world: World, tmp_path: Path, kind: str
) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {
        "name": "evil", "annotations": {"kubernetes.io/service-account.name": "default"}}}
    world.commit({"a.yaml": secret})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)

    async with strict_engine(cluster.config, tmp_path / "state", world.namespace, relax=("identity",)):
        await world.failed(reason="ReconciliationFailed", text=f"of type {kind} is applied only as an account")

    assert await world.get("v1", "Secret", "evil") is None


@pytest.mark.spec("SEC-28")
async def test_the_same_secret_is_the_tenants_own_affair_with_the_tenants_own_rights(
    world: World, strict: Engine
) -> None:
    await grant(world, "default", SECRETS)
    secret = {"apiVersion": "v1", "kind": "Secret", "type": TOKENS[0], "metadata": {
        "name": "mine", "annotations": {"kubernetes.io/service-account.name": "default"}}}
    world.commit({"a.yaml": secret})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)

    await world.ready()


# -- objects of others -------------------------------------------------------------------------------------------------

OWNER = "kustomize.toolkit.fluxcd.io"
HELM = {"meta.helm.sh/release-name": "db", "meta.helm.sh/release-namespace": "prod"}
HELD: dict[str, tuple[Json, str]] = {
    "a Kustomization of another namespace": (
        {"labels": {f"{OWNER}/name": "their", f"{OWNER}/namespace": "them"}}, "Kustomization/them/their"),
    "a HelmRelease": (
        {"labels": {"helm.toolkit.fluxcd.io/name": "db", "helm.toolkit.fluxcd.io/namespace": "them"}},
        "HelmRelease/them/db"),
    "a Helm release": ({"annotations": HELM}, "the Helm release prod/db"),
}


@pytest.mark.spec("SEC-27")
@pytest.mark.parametrize("held", sorted(HELD))
async def test_an_object_that_another_owner_holds_is_a_conflict(world: World, strict: Engine, held: str) -> None:
    metadata, holder = HELD[held]
    await grant(world, "default", CONFIG_MAPS)
    await put(world, "v1", "ConfigMap", "theirs", {"data": {"k": "theirs"}}, **metadata)
    manifest = config_map("theirs", k="ours")
    manifest["metadata"]["annotations"] = {"headrace.dev/adopt": "true", "headrace.dev/adoptable-by": "*/*"}
    world.commit({"a.yaml": config_map("a"), "b.yaml": manifest})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)

    await world.failed(reason="ReconciliationFailed", text=f"is held by {holder}")

    live = await world.get("v1", "ConfigMap", "theirs")
    assert live is not None
    assert live["data"] == {"k": "theirs"}
    assert "headrace.dev/adopt" not in live["metadata"].get("annotations", {})
    assert await world.get("v1", "ConfigMap", "a") is None, "nothing of the stage is applied"


@pytest.mark.spec("SEC-27")
@pytest.mark.parametrize(("ours", "theirs", "moves"), [
    pytest.param("true", "", False, id="only we"),
    pytest.param("", "{namespace}/app", False, id="only they"),
    pytest.param("true", "{namespace}/other", False, id="they name another"),
    pytest.param("true", "elsewhere/*", False, id="they name another namespace"),
    pytest.param("true", "{namespace}/app", True, id="both"),
    pytest.param("true", "elsewhere/x, {namespace}/*", True, id="both, anybody here"),
])
async def test_an_object_changes_hands_when_both_sides_say_so(
    world: World, strict: Engine, ours: str, theirs: str, moves: bool
) -> None:
    await grant(world, "default", CONFIG_MAPS)
    said = {"headrace.dev/adoptable-by": theirs.format(namespace=world.namespace)} if theirs else {}
    labels = {f"{OWNER}/name": "their", f"{OWNER}/namespace": "them"}
    await put(world, "v1", "ConfigMap", "a", {"data": {"k": "theirs"}}, labels=labels, annotations=said)
    manifest = config_map("a", k="ours")
    manifest["metadata"]["annotations"] = {"headrace.dev/adopt": ours} if ours else {}
    world.commit({"a.yaml": manifest})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)

    if not moves:
        await world.failed(reason="ReconciliationFailed", text="is held by Kustomization/them/their")
        return
    await world.ready()
    live = await world.get("v1", "ConfigMap", "a")
    assert live is not None
    assert live["data"] == {"k": "ours"}


@pytest.mark.spec("SEC-27")
async def test_an_object_that_was_taken_from_us_is_not_taken_back(world: World, strict: Engine) -> None:
    await grant(world, "default", CONFIG_MAPS)
    world.commit({"a.yaml": config_map("a", k="ours")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()

    labels = {f"{OWNER}/name": "their", f"{OWNER}/namespace": "them"}
    resource = await world.resource("v1", "ConfigMap")
    body = msgspec.json.encode(config_map("a", k="theirs") | {"metadata": {"name": "a", "labels": labels}})
    await world.client.apply(resource, world.namespace, "a", body, field_manager="them", force=True)

    await world.failed(reason="ReconciliationFailed", text="is held by Kustomization/them/their")
    live = await world.get("v1", "ConfigMap", "a")
    assert live is not None
    assert live["data"] == {"k": "theirs"}


@pytest.mark.spec("SEC-26")
@pytest.mark.parametrize("claimed", ["our labels, not in the inventory", "in the inventory, labels of others"])
async def test_only_what_is_listed_and_labelled_as_ours_is_deleted(
    world: World, strict: Engine, claimed: str
) -> None:
    await grant(world, "default", CONFIG_MAPS)
    world.commit({"a.yaml": config_map("a"), "b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    ours = {f"{OWNER}/name": "app", f"{OWNER}/namespace": world.namespace}
    if claimed.startswith("our labels"):
        victim = "foreign"
        await put(world, "v1", "ConfigMap", victim, {}, labels=ours)
    else:
        victim = "b"
        await world.patch(KUSTOMIZATION, "app", {"spec": {"suspend": True}})
        await put(world, "v1", "ConfigMap", victim, {}, labels={f"{OWNER}/namespace": "them"})

    revision = await world.push({"b.yaml": None})
    await world.patch(KUSTOMIZATION, "app", {"spec": {"suspend": False}})
    await world.ready(revision=revision)
    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")

    assert await world.get("v1", "ConfigMap", victim) is not None
    assert await world.get("v1", "ConfigMap", "a") is None


# -- data --------------------------------------------------------------------------------------------------------------


def claim(size: str, mode: str, **annotations: str) -> dict[str, object]:
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": size}}, "storageClassName": "none"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "annotations": annotations}, "spec": spec}


@pytest.mark.spec("SEC-55")
async def test_force_deletes_no_data_without_consent_for_that_object(world: World, strict: Engine) -> None:
    await grant(world, "default", rule([""], ["persistentvolumeclaims"]))
    world.commit({"a.yaml": claim("1Gi", "ReadWriteOnce")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, force=True)
    await world.ready()
    before = await world.get("v1", "PersistentVolumeClaim", "data")
    assert before is not None

    forced = {"kustomize.toolkit.fluxcd.io/force": "enabled"}
    await world.push({"a.yaml": claim("1Gi", "ReadWriteMany", **forced)})

    await world.failed(reason="ReconciliationFailed", text="is not recreated by force, since data would be lost")
    after = await world.get("v1", "PersistentVolumeClaim", "data")
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "deletionTimestamp" not in after["metadata"]
