"""What differs between the groups of kinds in how their state is told; everything else is the same for all."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.api.meta import SOURCE_GROUP


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the conditions of a group's kinds are read and written."""

    failing: tuple[str, ...] = ()
    """Conditions that are there only when something is wrong (True); their order decides which one Ready repeats."""
    steps: tuple[str, ...] = ()
    """The same in the order of the run: a step that failed says that those before it did not."""
    verdict: str = ""
    """The condition whose False is Ready's reason, whatever else is wrong."""
    keeps_ready: bool = False
    """Ready stays as it is while a run goes on, unless the run has found something to do."""
    observes_suspended: bool = False
    """A suspended object's generation counts as observed."""
    progress_message: str = "Reconciliation in progress"


SOURCES = Rules(
    failing=("StorageOperationFailed", "FetchFailed", "IncludeUnavailable", "BuildFailed", "ArtifactOutdated"),
    steps=("FetchFailed", "SourceVerified", "IncludeUnavailable", "BuildFailed", "ArtifactOutdated",
           "StorageOperationFailed"),
    verdict="SourceVerified",
    keeps_ready=True,
    observes_suspended=True,
    progress_message="reconciliation in progress",
)
"""sources.md section 1."""

DELIVERY = Rules()
"""kustomization.md section 3.3."""


def rules_of(group: str) -> Rules:
    """The rules of an API group."""
    return SOURCES if group == SOURCE_GROUP else DELIVERY
