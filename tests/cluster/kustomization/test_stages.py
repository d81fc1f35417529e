"""What others build on is there before them: namespaces, classes, and the kinds that operators name."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.controllers.kustomize.kustomization import KustomizationOptions
from tests.cluster.kustomization.test_spec_fields import ACCOUNTS, ROLE_BINDINGS, ROLES, create
from tests.cluster.kustomization.world import RunningEngine, World, inventory, running_engine
from tests.servers.control_plane import ControlPlane

RBAC = "rbac.authorization.k8s.io"


@pytest.mark.spec("KS-APPLY-02", "KS-APPLY-03", "KS-INV-04")
async def test_a_namespace_and_a_class_come_before_what_needs_them(world: World, engine: RunningEngine) -> None:
    name = f"{world.namespace}-two"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 7}
    # A pod is refused when its class or its account is not there.
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "own", "namespace": name}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": name},
           "spec": {"priorityClassName": name, "containers": [{"name": "c", "image": "x"}],
                    "serviceAccountName": "own", "nodeSelector": {"kubernetes.io/hostname": "no-such-node"}}}
    world.commit({"account.yaml": account, "ns.yaml": namespace})
    await world.source()
    await world.kustomization()
    ks = await world.ready()
    assert inventory(ks) == {f"_{name}__Namespace", f"{name}_own__ServiceAccount"}

    await world.ready(revision=await world.push({"priority.yaml": priority, "a-pod.yaml": pod}))
    found = await world.get("v1", "Pod", "p", name)
    assert found is not None
    assert found["spec"]["priority"] == 7
    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")


@pytest.mark.spec("KS-APPLY-04")
async def test_a_role_of_its_own_stage_can_be_bound_by_one_who_is_no_administrator(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    await create(world, ACCOUNTS, "tenant")
    rules = [{"apiGroups": [RBAC], "resources": ["roles", "rolebindings"], "verbs": ["get", "create", "patch"]},
             {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    await create(world, ROLES, "tenant", rules=rules)
    subject = {"kind": "ServiceAccount", "name": "tenant", "namespace": world.namespace}
    await create(world, ROLE_BINDINGS, "tenant", subjects=[subject],
                 roleRef={"apiGroup": RBAC, "kind": "Role", "name": "tenant"})
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": "reader"}, "rules": rules[1:]}
    binding = {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": {"name": "reader"},
               "subjects": [subject], "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "reader"}}
    world.commit({"role.yaml": role, "binding.yaml": binding})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName="tenant", prune=False)
    state = tmp_path / "state"
    async with running_engine(cluster.config, state, world.namespace) as engine:
        await world.failed(reason="ReconciliationFailed", text='"reader" not found')
        assert await world.get(f"{RBAC}/v1", "Role", "reader") is None
        await engine.until_trace(world.reference(), lambda trace: trace.reason == "ReconciliationFailed")
        await engine.stop()
    options = KustomizationOptions(custom_stages=(f"{RBAC}/Role",))
    async with running_engine(cluster.config, state, world.namespace, options):
        await world.ready()
