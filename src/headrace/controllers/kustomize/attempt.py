"""What a run says in the status besides its conditions, whether it ends well or not: revisions, inventory, history."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import msgspec

from headrace.api.kustomization import (
    ORIGIN_REVISION_ANNOTATION,
    REVISION_ANNOTATION,
    Kustomization,
)
from headrace.apply import history
from headrace.core.clock import Clock
from headrace.engine.failure import leading, step_error
from headrace.kube.errors import KubeError
from headrace.model.artifact import Artifact
from headrace.model.errors import StepError
from headrace.model.plan import InventoryEntry
from headrace.model.reference import MANAGEMENT_CLUSTER

SUCCEEDED = "ReconciliationSucceeded"
ARTIFACT_FAILED = "ArtifactFailed"


class Attempt:
    """One attempt to deliver one revision. `digest` is that of the manifests, known from the build on."""

    def __init__(self, ks: Kustomization, artifact: Artifact, clock: Clock) -> None:
        self.artifact = artifact
        self.digest = ""
        self.cluster = MANAGEMENT_CLUSTER
        self._ks = ks
        self._clock = clock
        self._started = clock.monotonic()

    @property
    def duration(self) -> float:
        """Seconds since the attempt began."""
        return self._clock.monotonic() - self._started

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Whatever fails inside names in its event what it was about; it passes unchanged otherwise."""
        try:
            yield
        except StepError as error:
            error.annotations = self.event_annotations()
            raise

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Whatever fails inside says in its status what was attempted. Anything else passes unchanged."""
        try:
            yield
        except Exception as raised:
            error = leading(raised)
            if isinstance(error, KubeError):
                error = step_error(error, self.cluster)
            if not isinstance(error, StepError):
                raise
            error.status = self._failed(error) | error.status
            error.annotations = self.event_annotations()
            if error is raised:
                raise
            raise error from raised

    def _failed(self, error: StepError) -> dict[str, object]:
        """Attempted counts from the check of the path on (KS-REC-10), history from applying on."""
        if error.reason == ARTIFACT_FAILED:
            return {}
        status: dict[str, object] = {"lastAttemptedRevision": self.artifact.revision}
        return status | self._history(error.reason)

    def succeeded(self, inventory: Iterable[InventoryEntry], *, counts: bool = True) -> dict[str, object]:
        """The status of an attempt that delivered everything; one that does not count is not in the history."""
        status: dict[str, object] = {
            "lastAppliedRevision": self.artifact.revision,
            "lastAttemptedRevision": self.artifact.revision,
            "lastAppliedOriginRevision": self.artifact.origin_revision or None,
            "inventory": inventory_status(inventory),
        }
        return status | (self._history(SUCCEEDED) if counts else {})

    def _history(self, reason: str) -> dict[str, object]:
        if not self.digest:
            return {}
        entries = history.record(
            self._ks.status.history,
            digest=self.digest,
            status=reason,
            now=self._clock.now(),
            duration=self.duration,
            metadata=self._metadata(),
        )
        return {"history": history.as_status(entries)}

    def event_annotations(self) -> dict[str, str]:
        """Annotations of the events of the attempt, whatever has become of it (KS-REC-11, KS-REC-13)."""
        return revision_annotations(self.artifact.revision, self.artifact.origin_revision)

    def _metadata(self) -> dict[str, str]:
        told = {"revision": self.artifact.revision, "originRevision": self.artifact.origin_revision}
        return {key: value for key, value in told.items() if value}


def revision_annotations(revision: str, origin: str) -> dict[str, str]:
    """The annotations that say which revision an event is about; what is not known is left out."""
    told = {REVISION_ANNOTATION: revision, ORIGIN_REVISION_ANNOTATION: origin}
    return {key: value for key, value in told.items() if value}


def inventory_status(entries: Iterable[InventoryEntry]) -> dict[str, object]:
    """`status.inventory` in JSON form."""
    return {"entries": [msgspec.to_builtins(entry) for entry in entries]}
