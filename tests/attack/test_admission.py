"""The roles and admission policies of `headrace install --tenancy strict`, on a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KINDS, KUSTOMIZATION
from headrace.cli.install import crds
from headrace.cli.manifests import InstallOptions, manifests
from headrace.cli.tenancy_manifests import tenant_roles
from headrace.kube.client import MERGE_PATCH, Client
from headrace.kube.errors import ApiError, Forbidden
from tests.attack.strict import GROUP, account, put
from tests.cluster.kustomization.world import World

Json = dict[str, Any]


@pytest.fixture
async def installed(world: World) -> AsyncIterator[World]:
    """What strict tenancy adds, under names of its own, for this world's namespace only."""
    suffix = world.namespace
    found = [m for m in manifests(InstallOptions(tenancy="strict", namespace=suffix), crds())
             if m["kind"].startswith("ValidatingAdmission") or m["metadata"]["name"].startswith("headrace-tenant")]
    chosen = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": suffix}}}
    for manifest in found:
        manifest["metadata"]["name"] += f"-{suffix}"
        if manifest["kind"] == "ValidatingAdmissionPolicyBinding":
            manifest["spec"]["policyName"] += f"-{suffix}"
            manifest["spec"]["matchResources"] = chosen
        content: Json = {key: manifest[key] for key in manifest.keys() & {"spec", "rules"}}
        meta = {key: value for key, value in manifest["metadata"].items() if key not in ("name", "namespace")}
        await put(world, manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"], content, **meta)
    yield world
    for manifest in reversed(found):
        resource = await world.resource(manifest["apiVersion"], manifest["kind"])
        await world.client.delete(resource, "", manifest["metadata"]["name"])


async def write_status(world: World, client: Client) -> None:
    resource = await world.resource(KUSTOMIZATION.api_version, "Kustomization")
    body = msgspec.json.encode({"status": {"lastAppliedRevision": "forged"}})
    await client.patch(resource, world.namespace, "app", body, content_type=MERGE_PATCH, subresource="status")


async def until_refused(attempt: Callable[[], Awaitable[None]]) -> ApiError:
    """A policy is in force a moment after it is created or changed, each at a moment of its own."""
    async with asyncio.timeout(30):
        while True:
            try:
                await attempt()
            except ApiError as error:
                return error
            await asyncio.sleep(0.1)


@pytest.mark.spec("SEC-25")
async def test_nobody_but_the_engine_writes_status(installed: World) -> None:
    await installed.kustomization()

    error = await until_refused(lambda: write_status(installed, installed.client))

    assert "written by the engine only" in str(error)
    engine = installed.client.impersonate(f"system:serviceaccount:{installed.namespace}:headrace", ["system:masters"])
    await write_status(installed, engine)


@pytest.mark.spec("SEC-25")
async def test_the_roles_of_tenants_hold_their_objects_and_no_status(installed: World) -> None:
    await account(installed, "tenant")
    subject = {"kind": "ServiceAccount", "name": "tenant", "namespace": installed.namespace}
    role = {"apiGroup": GROUP, "kind": "ClusterRole", "name": f"headrace-tenant-edit-{installed.namespace}"}
    await put(installed, f"{GROUP}/v1", "RoleBinding", "tenant", {"roleRef": role, "subjects": [subject]})
    await installed.kustomization()
    tenant = installed.client.impersonate_service_account(installed.namespace, "tenant")
    resource = await installed.resource(KUSTOMIZATION.api_version, "Kustomization")

    patch = msgspec.json.encode({"spec": {"suspend": True}})
    await tenant.patch(resource, installed.namespace, "app", patch, content_type=MERGE_PATCH)
    with pytest.raises(Forbidden):
        await write_status(installed, tenant)


def test_the_roles_cover_every_kind_and_no_subresource() -> None:
    for role in tenant_roles():
        rules = role["rules"]
        named = {(group, plural) for rule in rules for group in rule["apiGroups"] for plural in rule["resources"]}
        assert named == {(info.group, info.plural) for info in KINDS.values()}


@pytest.mark.spec("SEC-24")
async def test_the_policy_of_references_compiles_and_judges(installed: World) -> None:
    """Turned into a refusal here, to see its verdict: warnings are not told to clients of tests."""
    name = f"headrace-references-{installed.namespace}"
    bindings = await installed.resource("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding")
    policies = await installed.resource("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy")
    fails = msgspec.json.encode({"spec": {"failurePolicy": "Fail"}})
    await installed.client.patch(policies, "", name, fails, content_type=MERGE_PATCH)
    deny = msgspec.json.encode({"spec": {"validationActions": ["Deny"]}})
    await installed.client.patch(bindings, "", name, deny, content_type=MERGE_PATCH)
    spec: Json = {"interval": "1h", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "app"}}
    await installed.kustomization()
    away = {"sourceRef": {"kind": "GitRepository", "name": "app", "namespace": "kube-system"}}

    async def lead_away() -> None:
        resource, body = await installed.resource(KUSTOMIZATION.api_version, "Kustomization"), {"spec": away}
        await installed.client.patch(
            resource, installed.namespace, "app", msgspec.json.encode(body), content_type=MERGE_PATCH, dry_run=True
        )

    await until_refused(lead_away)
    bad = [spec | away, spec | {"dependsOn": [{"name": "a"}, {"name": "b", "namespace": "kube-system"}]}]
    for index, refused in enumerate(bad):
        with pytest.raises(ApiError, match="leads to another namespace"):
            await installed.create(KUSTOMIZATION, f"bad-{index}", refused)
    home = {"dependsOn": [{"name": "b", "namespace": installed.namespace}],
            "healthChecks": [{"kind": "Deployment", "name": "x", "namespace": "kube-system"}]}
    await installed.create(KUSTOMIZATION, "good", spec | home)
