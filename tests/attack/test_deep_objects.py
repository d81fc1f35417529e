"""SEC-39: an object that is nested more deeply than any decoder goes can be stored, and hides no others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.errors import KubeError
from headrace.kube.resource import Resource
from tests.cluster.kustomization.world import World, config_map, running_engine
from tests.servers.control_plane import ControlPlane

LEVELS = 3000
KUSTOMIZATIONS = Resource(
    KUSTOMIZATION.group, KUSTOMIZATION.storage_version, KUSTOMIZATION.kind, KUSTOMIZATION.plural, namespaced=True
)
DEEP = """{"apiVersion": "%s", "kind": "Kustomization", "metadata": {"name": "%s"}, "spec": {"interval": "1h",
"prune": true, "sourceRef": {"kind": "GitRepository", "name": "app"}, "patchesStrategicMerge": [{"a": %s}]}}"""


@contextlib.asynccontextmanager
async def deep_object(world: World, name: str) -> AsyncIterator[None]:
    """A Kustomization whose patches, which no schema knows, go down LEVELS levels."""
    body = DEEP % (KUSTOMIZATION.api_version, name, "[" * LEVELS + "]" * LEVELS)
    with contextlib.suppress(KubeError):  # the answer cannot be decoded either
        await world.client.create(KUSTOMIZATIONS, world.namespace, body.encode())
    try:
        yield
    finally:
        with contextlib.suppress(KubeError):
            await world.client.delete(KUSTOMIZATIONS, world.namespace, name)


@pytest.mark.spec("SEC-39")
async def test_a_very_deep_object_hides_no_others_whenever_it_comes(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    world.commit({"app.yaml": config_map("app")})
    async with deep_object(world, "before"):
        listing = await world.client.list(KUSTOMIZATIONS, world.namespace)
        assert (len(listing.items), listing.quarantined) == (0, 1), "the API server has it, and it cannot be decoded"
        async with running_engine(cluster.config, tmp_path / "engine", world.namespace):
            await world.source()
            await world.kustomization("app", targetNamespace=world.namespace)
            await world.ready("app")
            async with deep_object(world, "meanwhile"):
                await world.kustomization("other", targetNamespace=world.namespace, namePrefix="other-")
                await world.ready("other")
