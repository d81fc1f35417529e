"""The product itself under `--tenancy=strict`: the process of `headrace run`, on a control plane with real RBAC.

Nothing is wired here: the tests attack what the settings make of the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import msgspec

from headrace.cli.runtime import Runtime
from headrace.engine.engine import Engine
from headrace.kube.config import ClientConfig
from headrace.settings import (
    EdgeSettings,
    EngineSettings,
    LeaderElectionSettings,
    Settings,
    StorageSettings,
    TenancySettings,
)
from tests.cluster.kustomization.world import World
from tests.eventually import eventually

Json = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"


def strict_settings(directory: Path, namespace: str, **tenancy: Any) -> Settings:
    """Everything as `--tenancy=strict` has it; sources on loopback, since that is where the tests' servers are."""
    return Settings(
        tenancy=TenancySettings(**({"tenancy": "strict", "allow_hosts": ("127.0.0.1",)} | tenancy)),
        engine=EngineSettings(watch_all_namespaces=False, min_retry_delay=0.2, toolbox_processes=1),
        leader_election=LeaderElectionSettings(runtime_namespace=namespace),
        storage=StorageSettings(storage_path=str(directory / "storage"), storage_addr="127.0.0.1:0"),
        edge=EdgeSettings(metrics_addr="", health_addr="", socket=str(directory / "socket")),
    )


@contextlib.asynccontextmanager
async def strict_engine(
    config: ClientConfig, directory: Path, namespace: str, settings: Settings | None = None, **tenancy: Any
) -> AsyncIterator[Engine]:
    """The process, serving one namespace, until the context is left."""
    directory.mkdir(parents=True, exist_ok=True)
    runtime = Runtime(settings or strict_settings(directory, namespace, **tenancy), config)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(runtime.serve(stop))
        try:
            await eventually(lambda: runtime._parts is not None)
            assert runtime._parts is not None
            yield runtime._parts.engine
        finally:
            stop.set()


def everywhere(settings: Settings) -> Settings:
    """The same for all namespaces."""
    return dataclasses.replace(settings, engine=dataclasses.replace(settings.engine, watch_all_namespaces=True))


# -- what tenants may ------------------------------------------------------------------------------------------------


def rule(groups: Iterable[str], resources: Iterable[str], *verbs: str) -> Json:
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs or ("*",))}


async def account(world: World, name: str) -> None:
    """A service account without any rights."""
    await put(world, "v1", "ServiceAccount", name, {})


async def grant(world: World, name: str, *rules: Json, namespace: str = "") -> None:
    """Let a service account of the world's namespace do what the rules say, there or in another namespace."""
    api, where = f"{GROUP}/v1", namespace or world.namespace
    role = f"{world.namespace}-{name}"
    subject = {"kind": "ServiceAccount", "name": name, "namespace": world.namespace}
    await put(world, api, "Role", role, {"rules": list(rules)}, namespace=where)
    binding = {"roleRef": {"apiGroup": GROUP, "kind": "Role", "name": role}, "subjects": [subject]}
    await put(world, api, "RoleBinding", role, binding, namespace=where)


CONFIG_MAPS = rule([""], ["configmaps"])
SECRETS = rule([""], ["secrets"])


async def put(
    world: World, api_version: str, kind: str, name: str, content: Json, *, namespace: str | None = None,
    **metadata: Any,
) -> None:
    """Apply an object as the administrator."""
    resource = await world.resource(api_version, kind)
    where = (world.namespace if namespace is None else namespace) if resource.namespaced else ""
    body = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name} | metadata} | content
    await world.client.apply(resource, where, name, msgspec.json.encode(body), field_manager="tests")
