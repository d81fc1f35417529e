"""The gate MigrateAPIVersion: entries of managedFields that name an older version can break an apply of a newer one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.controllers.kustomize.kustomization import KustomizationOptions
from headrace.kube.resource import Resource
from tests.cluster.kustomization.world import DEADLINE, World, running_engine
from tests.servers.control_plane import ControlPlane

CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False)


def definition(group: str, *versions: str) -> dict[str, Any]:
    """Tubs; `v1` has a field with a default that `v1alpha1` does not know. The last version is stored."""
    mode = {"type": "string", "default": "cold"}

    def version(name: str) -> dict[str, Any]:
        fields = {"size": {"type": "integer"}} | ({"mode": mode} if name == "v1" else {})
        spec = {"type": "object", "properties": fields}
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
        return {"name": name, "served": True, "storage": name == versions[-1], "schema": schema}

    names = {"kind": "Tub", "plural": "tubs", "singular": "tub"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"tubs.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version(v) for v in versions]},
    }


def tub(group: str, version: str, size: int) -> dict[str, Any]:
    return {"apiVersion": f"{group}/{version}", "kind": "Tub", "metadata": {"name": "t"}, "spec": {"size": size}}


@pytest.fixture
async def group(world: World) -> AsyncIterator[str]:
    """A group with tubs, as long as the test runs."""
    group = f"{secrets.token_hex(4)}.example.com"
    yield group
    await world.client.delete(CRDS, "", f"tubs.{group}")


async def define(world: World, group: str, *versions: str) -> None:
    body = msgspec.json.encode(definition(group, *versions))
    await world.client.apply(CRDS, "", f"tubs.{group}", body, field_manager="tests")
    async with asyncio.timeout(DEADLINE):
        await world.discovery.wait(group, "Tub", versions[-1])


async def managed(world: World, group: str) -> dict[str, str]:
    """The API version of each manager's entry."""
    found = await world.get(f"{group}/v1", "Tub", "t")
    assert found is not None
    return {entry["manager"]: entry["apiVersion"] for entry in found["metadata"]["managedFields"]}


async def delivered_in_the_old_version(world: World, group: str) -> None:
    """Our own delivery and somebody else's field, both of v1alpha1; then v1 comes."""
    await define(world, group, "v1alpha1")
    world.commit({"t.yaml": tub(group, "v1alpha1", 1)})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    tubs = Resource(group, "v1alpha1", "Tub", "tubs", namespaced=True)
    labelled = msgspec.json.encode(
        {"apiVersion": f"{group}/v1alpha1", "kind": "Tub", "metadata": {"name": "t", "labels": {"theirs": "yes"}}})
    await world.client.apply(tubs, world.namespace, "t", labelled, field_manager="somebody")
    await define(world, group, "v1alpha1", "v1")


@pytest.mark.spec("KS-APPLY-22")
async def test_entries_of_an_older_version_are_rewritten_whoever_they_are_of(
    world: World, cluster: ControlPlane, tmp_path: Path, group: str
) -> None:
    options = KustomizationOptions(migrate_api_version=True)
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, options):
        await delivered_in_the_old_version(world, group)
        revision = await world.push({"t.yaml": tub(group, "v1", 2)})
        await world.ready(revision=revision)
        found = await world.get(f"{group}/v1", "Tub", "t")
        assert found is not None
        assert found["spec"] == {"size": 2, "mode": "cold"}
        assert found["metadata"]["labels"]["theirs"] == "yes"
        assert await managed(world, group) == {"kustomize-controller": f"{group}/v1", "somebody": f"{group}/v1"}


async def test_without_the_gate_the_entries_of_others_stay(
    world: World, cluster: ControlPlane, tmp_path: Path, group: str
) -> None:
    async with running_engine(cluster.config, tmp_path / "state", world.namespace):
        await delivered_in_the_old_version(world, group)
        revision = await world.push({"t.yaml": tub(group, "v1", 2)})
        await world.ready(revision=revision)
        assert await managed(world, group) == {"kustomize-controller": f"{group}/v1", "somebody": f"{group}/v1alpha1"}


@pytest.mark.spec("KS-APPLY-22")
async def test_an_object_that_is_left_alone_is_not_rewritten(
    world: World, cluster: ControlPlane, tmp_path: Path, group: str
) -> None:
    options = KustomizationOptions(migrate_api_version=True)
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, options):
        await delivered_in_the_old_version(world, group)
        paused = msgspec.json.encode(
            {"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}}})
        tubs = Resource(group, "v1alpha1", "Tub", "tubs", namespaced=True)
        await world.client.patch(tubs, world.namespace, "t", paused, field_manager="somebody")
        revision = await world.push({"t.yaml": tub(group, "v1", 2)})
        await world.ready(revision=revision)
        assert f"{group}/v1" not in (await managed(world, group)).values()
