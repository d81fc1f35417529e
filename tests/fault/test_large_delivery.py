"""Deliveries of very many objects. All of them are in the status of one object, which a cluster stores up to a limit:
what is beyond it is refused before anything that could not be tracked is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.client import MERGE_PATCH, Client
from headrace.kube.discovery import Discovery
from headrace.kube.resource import Resource
from tests.cluster.kustomization.conftest import CRDS
from tests.cluster.kustomization.world import Json, World, condition, config_map, inventory, running_engine
from tests.fault.killable import assert_all_tracked, delivered
from tests.servers.control_plane import ControlPlane

MANY = [f"object-{number:04d}" for number in range(1000)]
ALMOST_TOO_MANY, A_FEW_MORE = 2400, 300
"""Objects whose entries are as long as entries can be: an inventory of the first can be stored, of both it cannot."""

LONG = Resource(".".join(["x" * 59] * 4), "v1", "Long" + "x" * 58, "longs", namespaced=True)

KUSTOMIZATIONS = Resource(
    KUSTOMIZATION.group, KUSTOMIZATION.storage_version, KUSTOMIZATION.kind, KUSTOMIZATION.plural, namespaced=True
)


def parts(names: Iterable[str], value: str) -> dict[str, list[Json]]:
    """Objects in a few large files."""
    files: dict[str, list[Json]] = {}
    for number, name in enumerate(names):
        files.setdefault(f"part-{number % 5}.yaml", []).append(config_map(name, k=value))
    return files


async def test_a_thousand_objects_are_delivered_and_only_what_is_not_wanted_any_more_is_deleted(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    world.commit(parts(MANY, "1"))
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    async with running_engine(cluster.config, tmp_path / "state", world.namespace) as engine:
        ks = await world.ready()
        assert await delivered(world) == dict.fromkeys(MANY, "1")
        assert inventory(ks) == {f"{world.namespace}_{name}__ConfigMap" for name in MANY}
        before = engine.writes()
        left = MANY[50:]
        revision = await world.push(parts(left, "1"))
        ks = await world.ready(revision=revision)
        assert await delivered(world) == dict.fromkeys(left, "1")
        assert inventory(ks) == {f"{world.namespace}_{name}__ConfigMap" for name in left}
        after = engine.writes()
        assert after["delete configmaps"] - before.get("delete configmaps", 0) == 50
        assert after["patch configmaps"] == before["patch configmaps"], "nothing else has changed"


@pytest.fixture
async def long_kind(client: Client) -> AsyncIterator[Resource]:
    """A kind with a long name in a group with a long name."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    name = f"{LONG.plural}.{LONG.group}"
    body = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
        "spec": {
            "group": LONG.group, "scope": "Namespaced",
            "names": {"kind": LONG.kind, "plural": LONG.plural, "singular": "long", "listKind": "LongList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }  # fmt: skip
    await client.create(CRDS, "", msgspec.json.encode(body))
    await Discovery(client).wait(LONG.group, LONG.kind)
    yield LONG
    await client.delete(CRDS, "", name)


def long_name(number: int) -> str:
    return f"{number:05d}".ljust(253, "x")


def long_object(number: int) -> Json:
    return {"apiVersion": f"{LONG.group}/v1", "kind": LONG.kind, "metadata": {"name": long_name(number)}}


async def track(world: World, tracked: set[str]) -> None:
    """Have the inventory say so, as the engine before may have left it."""
    entries = [{"id": entry, "v": "v1"} for entry in sorted(tracked)]
    body = msgspec.json.encode({"status": {"inventory": {"entries": entries}}})
    await world.client.patch(
        KUSTOMIZATIONS, world.namespace, "app", body, content_type=MERGE_PATCH, subresource="status"
    )


async def test_an_inventory_that_the_cluster_cannot_store_is_refused_before_anything_is_applied(
    world: World, cluster: ControlPlane, tmp_path: Path, long_kind: Resource
) -> None:
    world.commit({"kept.yaml": config_map("kept", k="1"), "gone.yaml": config_map("gone", k="1")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    async with running_engine(cluster.config, tmp_path / "state", world.namespace) as engine:
        own = inventory(await world.ready())
        tail = f"{long_kind.group}_{long_kind.kind}"
        tracked = own | {f"{world.namespace}_{long_name(number)}_{tail}" for number in range(ALMOST_TOO_MANY)}
        await track(world, tracked)
        more = [long_object(ALMOST_TOO_MANY + number) for number in range(A_FEW_MORE)]
        files = {"kept.yaml": config_map("kept", k="2"), "extra.yaml": config_map("extra", k="2"), "gone.yaml": None}
        await world.push(files | {"more.yaml": more})

        ks = await world.failed(reason="ReconciliationFailed", text="nothing was applied")
        message = condition(ks, "Ready")["message"]
        number, stale = ALMOST_TOO_MANY + A_FEW_MORE + 3, ALMOST_TOO_MANY + 1
        assert f"inventory of {number} objects, {stale} of them to be deleted, is too large" in message
        assert "several Kustomizations" in message
        assert inventory(ks) == tracked, "as it was"
        assert await delivered(world) == {"kept": "1", "gone": "1"}
        assert not (await world.client.list(long_kind, world.namespace)).items
        assert not [write for write in engine.writes() if long_kind.plural in write or "delete" in write]

        await track(world, own)
        revision = await world.push({"more.yaml": more[:1]})
        await world.ready(revision=revision)
        assert await delivered(world) == {"kept": "2", "extra": "2"}
        assert len((await world.client.list(long_kind, world.namespace)).items) == 1
        await assert_all_tracked(world)
