"""The prune budget: how much a run may delete before a person has approved it. Pure; off unless a limit is set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from headrace.model.errors import Retry
from headrace.model.reference import Reference

PRUNE_HELD = "PruneHeld"

SHOWN = 10
"""Objects that the message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneBudget:
    """`limit` objects may be deleted by one run, and none of the `protected` kinds (`Kind` or `group/Kind`).

    `approval` is what a person has approved: the revision that is delivered, or the digest of the list. `revision` is
    the one of this run; `how` the command that approves, up to the value; `after` when to look again, in seconds.
    """

    limit: int
    protected: frozenset[str] = frozenset()
    approval: str = ""
    revision: str = ""
    how: str = ""
    after: float | None = None

    def hold(self, doomed: Iterable[tuple[str, Reference]]) -> Retry | None:
        """Why the objects, each with its inventory id, are not to be deleted yet; None when they are."""
        listed = sorted(doomed)
        protected = [reference for _, reference in listed if self._protects(reference)]
        if not protected and len(listed) <= self.limit:
            return None
        token = digest(each for each, _ in listed)
        if self.approval and self.approval in (token, self.revision):
            return None
        return self._held([reference for _, reference in listed], protected, token)

    def _protects(self, reference: Reference) -> bool:
        return bool(self.protected & {reference.kind, f"{reference.group}/{reference.kind}"})

    def _held(self, doomed: list[Reference], protected: list[Reference], token: str) -> Retry:
        because = f"{len(doomed)} objects are to be deleted, the budget is {self.limit}"
        if protected:
            because = f"objects of protected kinds are to be deleted: {_names(protected)}"
        text = f"deletion is held: {because}; everything else is applied. Approve with: {self.how}{token}"
        lines = [text, *(f"{reference} would be deleted" for reference in doomed[:SHOWN])]
        if len(doomed) > SHOWN:
            lines.append(f"and {len(doomed) - SHOWN} more")
        return Retry(PRUNE_HELD, "\n".join(lines), after=self.after, objects=doomed)


def digest(ids: Iterable[str]) -> str:
    """What stands for exactly these objects."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]


def limit_of(annotation: str, setting: int) -> int | None:
    """The limit that applies: the annotation's, else the setting's; None for no limit (a negative one). An annotation
    that is no number lets nothing be deleted: somebody wanted a limit."""
    if not annotation:
        return setting if setting >= 0 else None
    try:
        stated = int(annotation)
    except ValueError:
        return 0
    return stated if stated >= 0 else None


def _names(references: list[Reference]) -> str:
    shown = ", ".join(map(str, references[:SHOWN]))
    return shown if len(references) <= SHOWN else f"{shown} and {len(references) - SHOWN} more"


