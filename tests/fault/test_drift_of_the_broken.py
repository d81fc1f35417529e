"""An object that has drifted, of a Kustomization that cannot be delivered: it is corrected when that can be, and
until then it is no reason to try again at once, and again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.engine.settings import EngineSettings
from headrace.kube.client import MERGE_PATCH
from headrace.model.trace import Cause
from tests.cluster.kustomization.world import RunningEngine, World, config_map
from tests.eventually import eventually
from tests.fault.killable import CONFIG_MAPS

BROKEN: dict[str, Any] = {
    "no YAML": "a: [b\n",
    "invalid object": config_map("broken") | {"data": {"k": {"of": "no such type"}}},
    "unknown kind": {"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "x"}},
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_drift_that_cannot_be_corrected_is_no_reason_to_try_again_and_again(
    world: World, engine: RunningEngine, broken: str
) -> None:
    await world.source()
    await world.push({"a.yaml": config_map("a", k="1"), "b.yaml": config_map("b", k="1")})
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    await world.push({"x.yaml": BROKEN[broken]})
    await world.failed()
    drift = msgspec.json.encode({"data": {"k": "2"}})
    await world.client.patch(CONFIG_MAPS, world.namespace, "a", drift, content_type=MERGE_PATCH, field_manager="other")
    await engine.until_trace(world.reference(), lambda run: any(is_drift(cause) for cause in run.causes))
    for _ in range(EngineSettings().traces):
        await world.handled("app", await world.request(KUSTOMIZATION, "app"))

    def only_requested() -> bool:
        return all("requested" in map(str, run.causes) for run in engine.traces(world.reference()))

    await eventually(only_requested, "runs that nobody asked for come to an end", timeout=10)

    revision = await world.push({"x.yaml": None})
    await world.ready(revision=revision)
    await world.until(CONFIG_MAPS, "a", lambda o: o["data"] == {"k": "1"})


def is_drift(cause: Cause) -> bool:
    return cause.reference is not None and cause.reference.kind == "ConfigMap"
