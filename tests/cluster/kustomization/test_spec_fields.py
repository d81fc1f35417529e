"""Fields of the spec that shape what is delivered, how, and as whom."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.controllers.kustomize import kustomization
from headrace.kube.client import MERGE_PATCH
from headrace.kube.errors import ApiError
from headrace.kube.resource import Resource
from tests.cluster.kustomization.world import RunningEngine, World, condition, config_map, deployment, inventory

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)
SECRETS = Resource("", "v1", "Secret", "secrets", namespaced=True)
ROLES = Resource("rbac.authorization.k8s.io", "v1", "Role", "roles", namespaced=True)
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", namespaced=True)
ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True)
CONTROL = "kustomize.toolkit.fluxcd.io"


async def create(world: World, resource: Resource, name: str, **content: Any) -> None:
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}} | content
    await world.client.create(resource, world.namespace, msgspec.json.encode(body))


@pytest.mark.spec("KS-GEN-05", "KS-GEN-11", "KS-APPLY-16")
async def test_names_patches_images_and_metadata_are_changed(world: World, engine: RunningEngine) -> None:
    world.commit({"web.yaml": deployment("web", 0), "c/kustomization.yaml": {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component",
        "configMapGenerator": [{"name": "extra", "literals": ["k=v"], "options": {"disableNameSuffixHash": True}}]},
        "app/kustomization.yaml": {"resources": ["web.yaml"]}, "app/web.yaml": deployment("web", 0)})
    await world.source()
    merge = msgspec.json.encode({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
                                 "spec": {"revisionHistoryLimit": 3}}).decode()
    operation = [{"op": "add", "path": "/metadata/annotations", "value": {"patched": "yes"}}]
    await world.kustomization(
        path="app", targetNamespace=world.namespace, namePrefix="pre-", nameSuffix="-post", components=["../c"],
        images=[{"name": "example.com/app", "newTag": "2"}],
        patches=[{"patch": merge},
                 {"patch": msgspec.json.encode(operation).decode(), "target": {"kind": "Deployment"}}],
        commonMetadata={"labels": {"team": "a"}, "annotations": {"note": "b"}},
    )
    await world.ready()
    web = await world.get("apps/v1", "Deployment", "pre-web-post")
    assert web is not None
    assert web["spec"]["template"]["spec"]["containers"][0]["image"] == "example.com/app:2"
    assert web["spec"]["revisionHistoryLimit"] == 3
    assert web["metadata"]["annotations"].items() >= {"patched": "yes", "note": "b"}.items()
    assert web["metadata"]["labels"]["team"] == "a"
    assert await world.get("v1", "ConfigMap", "pre-extra-post") is not None

    await world.patch(KUSTOMIZATION, "app", {"spec": {"commonMetadata": None}})
    web = await world.until(DEPLOYMENTS, "pre-web-post", lambda o: "team" not in o["metadata"]["labels"])
    assert "note" not in web["metadata"]["annotations"]
    assert web["metadata"]["annotations"]["patched"] == "yes"


@pytest.mark.spec("KS-SUB-01", "KS-SUB-02")
async def test_a_changed_variable_is_delivered_and_the_inline_one_wins(world: World, engine: RunningEngine) -> None:
    await create(world, CONFIG_MAPS, "vars", data={"a": "1", "b": "from-map", "c": "x\ny"})
    await create(world, SECRETS, "vars", data={"b": base64.b64encode(b"from-secret").decode()})
    world.commit({"a.yaml": config_map("a", a="${a}x", b="${b}", c="${c}", d="${d}")})
    await world.source()
    sources = [{"kind": "ConfigMap", "name": "vars"}, {"kind": "Secret", "name": "vars"},
               {"kind": "ConfigMap", "name": "absent", "optional": True}]
    await world.kustomization(
        targetNamespace=world.namespace, postBuild={"substitute": {"d": "inline"}, "substituteFrom": sources})
    await world.ready()
    found = await world.get("v1", "ConfigMap", "a")
    assert found is not None
    assert found["data"] == {"a": "1x", "b": "from-secret", "c": "xy", "d": "inline"}

    patch = msgspec.json.encode({"data": {"a": "2"}})
    await world.client.patch(CONFIG_MAPS, world.namespace, "vars", patch, content_type=MERGE_PATCH)
    await world.until(CONFIG_MAPS, "a", lambda o: o["data"]["a"] == "2x")


@pytest.mark.spec("KS-SUB-06", "KS-SUB-04")
async def test_missing_variables_fail_the_build_and_their_creation_is_the_cure(
    world: World, engine: RunningEngine
) -> None:
    world.commit({"a.yaml": config_map("a", a="${a}")})
    await world.source()
    source = {"kind": "ConfigMap", "name": "vars"}
    await world.kustomization(targetNamespace=world.namespace, postBuild={"substituteFrom": [source]})
    missing = """substitute from 'ConfigMap/vars' error: configmaps "vars" not found"""
    await world.failed(reason="BuildFailed", text=missing)
    await create(world, CONFIG_MAPS, "vars", data={"other": "1"})
    await world.failed(reason="BuildFailed", text="variable not set (strict mode)")
    patch = msgspec.json.encode({"data": {"a": "v"}})
    await world.client.patch(CONFIG_MAPS, world.namespace, "vars", patch, content_type=MERGE_PATCH)
    await world.ready()


@pytest.mark.spec("KS-FORCE-01", "KS-FORCE-02")
async def test_an_immutable_field_fails_without_force_and_is_recreated_with_it(
    world: World, engine: RunningEngine
) -> None:
    world.commit({"web.yaml": deployment("web", 0)})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    first = await world.get("apps/v1", "Deployment", "web")
    changed = deployment("web", 0)
    changed["spec"]["selector"]["matchLabels"] = changed["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    revision = await world.push({"web.yaml": changed})
    await world.failed(reason="ReconciliationFailed", text="field is immutable")

    await world.patch(KUSTOMIZATION, "app", {"spec": {"force": True}})
    await world.ready(revision=revision)
    second = await world.get("apps/v1", "Deployment", "web")
    assert first is not None
    assert second is not None
    assert first["metadata"]["uid"] != second["metadata"]["uid"]


@pytest.mark.spec("KS-IMP-01", "KS-IMP-02")
async def test_everything_is_done_as_the_service_account(
    world: World, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kustomization, "SHORTEST_TIMEOUT", 1.0)
    account = f"system:serviceaccount:{world.namespace}:tenant"
    await create(world, ACCOUNTS, "tenant")
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName="tenant", retryInterval="2s")
    ks = await world.failed(reason="ReconciliationFailed", text=account)
    assert f"ConfigMap/{world.namespace}/a dry-run failed (Forbidden): " in condition(ks, "Ready")["message"]

    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch", "delete"]}]
    await create(world, ROLES, "tenant", rules=rules)
    subject = {"kind": "ServiceAccount", "name": "tenant", "namespace": world.namespace}
    await create(world, ROLE_BINDINGS, "tenant", subjects=[subject],
                 roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"})
    await world.ready()

    await create(world, SECRETS, "theirs")
    check = {"apiVersion": "v1", "kind": "Secret", "name": "theirs", "namespace": world.namespace}
    await world.patch(KUSTOMIZATION, "app", {"spec": {"healthChecks": [check], "timeout": "1s"}})
    await world.failed(reason="HealthCheckFailed", text=f"Secret/{world.namespace}/theirs status: 'Unknown'")

    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")
    assert await world.get("v1", "ConfigMap", "a") is None


@pytest.mark.spec("KS-FIN-04")
async def test_a_missing_service_account_does_not_hold_up_the_deletion(world: World, engine: RunningEngine) -> None:
    await create(world, ACCOUNTS, "tenant")
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]
    await create(world, ROLES, "tenant", rules=rules)
    subject = {"kind": "ServiceAccount", "name": "tenant", "namespace": world.namespace}
    await create(world, ROLE_BINDINGS, "tenant", subjects=[subject],
                 roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"})
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName="tenant")
    await world.ready()
    await world.client.delete(ACCOUNTS, world.namespace, "tenant")
    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")
    assert await world.get("v1", "ConfigMap", "a") is not None
    assert (await world.until_event("unable to prune objects"))["type"] == "Warning"


DELETED = [
    ({"prune": True}, False),
    ({"prune": False}, True),
    ({"prune": False, "deletionPolicy": "Delete"}, False),
    ({"prune": False, "deletionPolicy": "WaitForTermination"}, False),
    ({"prune": True, "deletionPolicy": "Orphan"}, True),
]


@pytest.mark.spec("KS-FIN-01")
@pytest.mark.parametrize(("spec", "kept"), DELETED, ids=["prune", "no prune", "Delete", "WaitForTermination", "Orphan"])
async def test_the_deletion_policy_decides_what_stays(
    world: World, engine: RunningEngine, spec: dict[str, Any], kept: bool
) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, **spec)
    await world.ready()
    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")
    assert (await world.get("v1", "ConfigMap", "a") is not None) is kept


@pytest.mark.spec("KS-FIN-03")
async def test_termination_is_waited_for(world: World, engine: RunningEngine) -> None:
    held = config_map("a")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    world.commit({"a.yaml": held})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, deletionPolicy="WaitForTermination", timeout="1h")
    await world.ready()
    await world.delete(KUSTOMIZATION, "app")
    await world.until(CONFIG_MAPS, "a", lambda o: "deletionTimestamp" in o["metadata"])
    assert await world.get(KUSTOMIZATION.api_version, "Kustomization", "app") is not None
    patch = msgspec.json.encode({"metadata": {"finalizers": None}})
    await world.client.patch(CONFIG_MAPS, world.namespace, "a", patch, content_type=MERGE_PATCH)
    await world.until_gone(KUSTOMIZATION, "app")


async def deleted_but_held(world: World, **spec: Any) -> None:
    """Deliver an object that a finalizer keeps, and delete the Kustomization."""
    held = config_map("a")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    world.commit({"a.yaml": held})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, **spec)
    await world.ready()
    await world.delete(KUSTOMIZATION, "app")


async def still_terminating(world: World, name: str) -> bool:
    """Whether an object is being deleted and not gone; lets it go."""
    found = await world.get("v1", "ConfigMap", name)
    patch = msgspec.json.encode({"metadata": {"finalizers": None}})
    await world.client.patch(CONFIG_MAPS, world.namespace, name, patch, content_type=MERGE_PATCH)
    return found is not None and "deletionTimestamp" in found["metadata"]


@pytest.mark.spec("KS-FIN-03")
async def test_what_does_not_terminate_in_time_is_named_and_holds_the_kustomization_no_longer(
    world: World, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kustomization, "SHORTEST_TIMEOUT", 1.0)
    await deleted_but_held(world, deletionPolicy="WaitForTermination", timeout="1s")
    await world.until_gone(KUSTOMIZATION, "app")
    assert await still_terminating(world, "a")
    text = f"failed to wait for resources termination: ConfigMap/{world.namespace}/a"
    assert (await world.until_event(text))["type"] == "Warning"


@pytest.mark.spec("KS-FIN-01")
@pytest.mark.parametrize("policy", ["Delete", "MirrorPrune"])
async def test_termination_is_waited_for_only_where_the_policy_says_so(
    world: World, engine: RunningEngine, policy: str
) -> None:
    await deleted_but_held(world, deletionPolicy=policy, timeout="1h")
    await world.until_gone(KUSTOMIZATION, "app")
    assert await still_terminating(world, "a")


@pytest.mark.spec("KS-GC-02")
async def test_without_prune_stale_objects_are_forgotten(world: World, engine: RunningEngine) -> None:
    world.commit({"a.yaml": config_map("a"), "b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, prune=False)
    await world.ready()
    revision = await world.push({"b.yaml": None})
    ks = await world.ready(revision=revision)
    assert inventory(ks) == {f"{world.namespace}_a__ConfigMap"}
    assert await world.get("v1", "ConfigMap", "b") is not None


@pytest.mark.spec("KS-GC-03", "KS-GC-04", "SEC-26")
@pytest.mark.parametrize(
    "metadata",
    [{"annotations": {f"{CONTROL}/prune": "Disabled"}}, {"labels": {f"{CONTROL}/name": "somebody-else"}}],
    ids=["prune disabled", "another owner"],
)
async def test_an_object_that_is_not_ours_to_delete_stays(
    world: World, engine: RunningEngine, metadata: dict[str, Any]
) -> None:
    world.commit({"a.yaml": config_map("a"), "b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    await world.patch(KUSTOMIZATION, "app", {"spec": {"suspend": True}})
    await world.until(KUSTOMIZATION, "app", lambda o: o["status"]["observedGeneration"] == o["metadata"]["generation"])
    patch = msgspec.json.encode({"metadata": metadata})
    await world.client.patch(CONFIG_MAPS, world.namespace, "b", patch, content_type=MERGE_PATCH)
    revision = await world.push({"b.yaml": None})
    await world.patch(KUSTOMIZATION, "app", {"spec": {"suspend": False}})
    await world.ready(revision=revision)
    assert await world.get("v1", "ConfigMap", "b") is not None


@pytest.mark.spec("SEC-25")
async def test_a_foreign_object_written_into_the_inventory_is_not_deleted(world: World, engine: RunningEngine) -> None:
    await create(world, CONFIG_MAPS, "foreign")
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    ks = await world.ready()
    entries = [*ks["status"]["inventory"]["entries"], {"id": f"{world.namespace}_foreign__ConfigMap", "v": "v1"}]
    kustomizations = await world.resource(KUSTOMIZATION.api_version, "Kustomization")
    body = msgspec.json.encode({"status": {"inventory": {"entries": entries}}})
    await world.client.patch(
        kustomizations, world.namespace, "app", body, content_type=MERGE_PATCH, subresource="status")
    await world.handled("app", await world.request(KUSTOMIZATION, "app"))
    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")
    assert await world.get("v1", "ConfigMap", "foreign") is not None
    assert await world.get("v1", "ConfigMap", "a") is None


@pytest.mark.spec("KS-GC-06", "REL-04")
async def test_a_deletion_that_was_refused_is_kept_reported_and_repeated(world: World, engine: RunningEngine) -> None:
    policies = await world.resource("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy")
    bindings = await world.resource("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding")
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"]}
    policy = {"apiVersion": policies.api_version, "kind": policies.kind, "metadata": {"name": world.namespace},
              "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "false"}]}}
    chosen = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    binding = {"apiVersion": bindings.api_version, "kind": bindings.kind, "metadata": {"name": world.namespace},
               "spec": {"policyName": world.namespace, "validationActions": ["Deny"],
                        "matchResources": {"namespaceSelector": chosen}}}
    world.commit({"a.yaml": config_map("a"), "b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, retryInterval="1s")
    await world.ready()
    await world.client.create(policies, "", msgspec.json.encode(policy))
    await world.client.create(bindings, "", msgspec.json.encode(binding))
    try:
        await until_denied(world)
        revision = await world.push({"b.yaml": None})
        ks = await world.failed(reason="PruneFailed", text=f"ConfigMap/{world.namespace}/b delete failed")
        assert f"{world.namespace}_b__ConfigMap" in inventory(ks)
    finally:
        await world.client.delete(bindings, "", world.namespace)
        await world.client.delete(policies, "", world.namespace)
    ks = await world.ready(revision=revision)
    assert inventory(ks) == {f"{world.namespace}_a__ConfigMap"}
    assert await world.get("v1", "ConfigMap", "b") is None


async def until_denied(world: World) -> None:
    """Admission policies take effect a moment after they are made."""
    await create(world, CONFIG_MAPS, "probe")
    for _ in range(600):
        try:
            await world.client.delete(CONFIG_MAPS, world.namespace, "probe", dry_run=True)
        except ApiError:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the policy does not take effect")
