"""`headrace check`: whether the machine and the cluster are fit, and whether what is installed runs."""

from __future__ import annotations

import shutil
from typing import Any

import msgspec

from headrace.api.kinds import KINDS
from headrace.cli.connect import Connection, Target, connect
from headrace.cli.engine_socket import EngineSocket
from headrace.cli.exits import FAILED, OK, CommandError
from headrace.cli.flux_leases import components, live_rivals
from headrace.cli.kubectl import binary
from headrace.cli.manifests import NAME
from headrace.cli.output import action, failure, success
from headrace.cli.version import PROGRAMS
from headrace.core.clock import SystemClock
from headrace.kube.errors import Forbidden
from headrace.kube.lease import LEASES
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

OLDEST_KUBERNETES = (1, 31)
"""Older servers are not tested; server-side apply as it is used here needs 1.26."""


async def check(target: Target, *, pre: bool) -> int:
    """Print a line for each thing looked at. Returns FAILED when something that is needed is wrong."""
    action("checking prerequisites")
    fine = _machine()
    async with connect(target) as connection:
        fine &= await _kubernetes(connection)
        if not pre:
            action("checking the installation")
            fine &= await _definitions(connection)
            fine &= await _engine(connection, target.namespace)
    (success if fine else failure)("all checks passed" if fine else "checks failed")
    return OK if fine else FAILED


def _machine() -> bool:
    fine = _tell(shutil.which("git") is not None, "git is installed", "git is not installed")
    for name in PROGRAMS:
        try:
            binary(name)
        except CommandError as error:
            fine = _tell(False, "", str(error))
        else:
            _tell(True, f"{name} is built", "")
    return fine


async def _kubernetes(connection: Connection) -> bool:
    found: dict[str, Any] = msgspec.json.decode(await connection.client.request("GET", "/version"))
    text = str(found.get("gitVersion", "unknown"))
    digits = ("".join(c for c in str(found.get(part, "0")) if c.isdigit()) for part in ("major", "minor"))
    version = tuple(int(number or 0) for number in digits)
    oldest = ".".join(map(str, OLDEST_KUBERNETES))
    return _tell(
        version >= OLDEST_KUBERNETES, f"Kubernetes {text} >={oldest}", f"Kubernetes {text} is older than {oldest}"
    )


async def _definitions(connection: Connection) -> bool:
    fine = True
    served = {resource.group_kind for resource in await connection.discovery.resources()}
    for info in KINDS.values():
        name = f"{info.crd_name}/{info.storage_version}"
        fine &= _tell(info.group_kind in served, name, f"{name} is not installed: headrace install")
    return fine


async def _engine(connection: Connection, namespace: str) -> bool:
    """An engine in the cluster, one of this user, or Flux itself: one has to run."""
    deployment = await connection.find(Reference("apps", "Deployment", namespace, NAME))
    async with EngineSocket(connection.client.config.server) as engine:
        if engine.info is not None:
            return _tell(True, f"headrace {engine.info.version} runs here (pid {engine.info.pid})", "")
    if deployment is not None:
        ready, wanted, images = _replicas(deployment)
        return _tell(
            ready >= 1, f"{NAME}: deployment ready ({images})", f"{NAME}: {ready} of {wanted} replicas are ready"
        )
    rivals = await _flux(connection)
    return _tell(
        bool(rivals), f"Flux is running: {', '.join(rivals)}", "no engine is running: headrace run, or install"
    )


def _replicas(deployment: LiveObject) -> tuple[int, int, str]:
    content = deployment.content()
    images = [c.get("image", "") for c in content["spec"]["template"]["spec"]["containers"]]
    return content.get("status", {}).get("readyReplicas", 0), content["spec"].get("replicas", 1), ", ".join(images)


async def _flux(connection: Connection) -> list[str]:
    try:
        leases = await connection.client.list(LEASES)
    except Forbidden:
        return []
    return live_rivals(leases.items, components(()), SystemClock())


def _tell(fine: bool, good: str, bad: str) -> bool:
    (success if fine else failure)(good if fine else bad)
    return fine
