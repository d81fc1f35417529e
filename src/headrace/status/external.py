"""The status of an ExternalArtifact, written for its producer: it has no controller of its own (sources.md 2.6)."""

from __future__ import annotations

import msgspec

from headrace.api.kinds import EXTERNAL_ARTIFACT
from headrace.api.meta import READY
from headrace.core.clock import Clock
from headrace.kube.client import Client
from headrace.kube.resource import Resource
from headrace.model.artifact import Artifact
from headrace.model.objects import LiveObject
from headrace.model.outcome import Condition
from headrace.status import conditions
from headrace.status.writer import Status, merge_patch, status_of

RESOURCE = Resource(
    EXTERNAL_ARTIFACT.group,
    EXTERNAL_ARTIFACT.storage_version,
    EXTERNAL_ARTIFACT.kind,
    EXTERNAL_ARTIFACT.plural,
    namespaced=True,
)

READY_NOW = Condition(READY, "True", "Succeeded", "Artifact is ready")


class ExternalStatus:
    """Writes with `client` and its identity, as `manager`."""

    def __init__(self, client: Client, clock: Clock, manager: str) -> None:
        self._client = client
        self._clock = clock
        self._manager = manager

    async def offer(self, live: LiveObject, artifact: Artifact) -> LiveObject:
        """Make `artifact` what the object offers, and Ready its only condition; no request when it is so already.

        Returns the object as it is then. Raises KubeError.
        """
        before = status_of(live)
        told = conditions.changed(
            [one for one in conditions.decode(before) if one.type == READY],
            (READY_NOW,),
            generation=live.metadata.generation,
            now=self._clock.now(),
        )
        after: Status = msgspec.json.decode(
            msgspec.json.encode({"artifact": shown(artifact), "conditions": told}, order="deterministic")
        )
        patch = merge_patch(before, after)
        if not patch:
            return live
        return await self._client.patch(
            RESOURCE,
            live.metadata.namespace,
            live.metadata.name,
            msgspec.json.encode({"status": patch}),
            subresource="status",
            field_manager=self._manager,
        )


def offered(live: LiveObject) -> bool:
    """Whether an object says that its artifact is ready."""
    ready = conditions.find(conditions.decode(status_of(live)), READY)
    return ready is not None and ready.status == "True"


def shown(artifact: Artifact) -> dict[str, object]:
    """An artifact as the status shows it."""
    return {key: value for key, value in msgspec.to_builtins(artifact).items() if value is not None}
