"""Teardown in reverse order of dependencies: what is deleted together goes dependents first.

A Kustomization that is being deleted waits while another one that depends on it is being deleted too and not done.
A dependent that stays does not hold it, as in Flux; nor does one in a circle, one whose controller's part is done, or
one that takes too long. Its own dependencies never matter: they may be gone long since (KS-DEP-07).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headrace.api.kustomization import Kustomization
from headrace.controllers.kustomize.handover import age_of_deletion
from headrace.controllers.kustomize.neighbours import TERMINATION, Neighbour, Neighbours, dependencies_of
from headrace.core.clock import Clock
from headrace.engine.graph import find_cycle
from headrace.model.errors import Waiting
from headrace.model.reference import Reference
from headrace.model.scope import Scope

PATIENCE = 600.0
"""Seconds after its own deletion was asked for until a Kustomization waits for nobody any more."""

MOMENT = 1.0
"""Seconds that a Kustomization with dependents gives them to be deleted too: `kubectl delete` of several objects
sends one request after the other."""

DEPENDENTS = "DependentsTerminating"


class Teardown:
    """Decides when a Kustomization's turn to be torn down has come."""

    def __init__(self, neighbours: Neighbours, clock: Clock) -> None:
        self._neighbours = neighbours
        self._clock = clock

    async def await_turn(self, ks: Kustomization, scope: Scope) -> None:
        """Returns when nothing needs to go first. Raises Waiting(DependentsTerminating), woken by the dependent's
        end, and Superseded when a dependent is deleted within the moment it is given."""
        myself = scope.live.reference
        left = PATIENCE - age_of_deletion(ks, self._clock)
        if left <= 0:
            return
        others = self._neighbours.of(myself)
        holding = holders(myself, dependencies_of(ks), others)
        if holding:
            await self._subscribe(holding, scope)
            said = f"waiting for the deletion of {', '.join(map(str, holding))}"
            raise Waiting(DEPENDENTS, said, on=holding, after=left, quiet=True)
        staying = [n.reference for n in others if myself in n.depends_on and not n.deleting]
        if staying and age_of_deletion(ks, self._clock) < 2 * MOMENT:
            await self._subscribe(staying, scope)
            await scope.wait(self._clock.sleep(MOMENT), on=staying, note="deletion of dependents")

    async def _subscribe(self, references: Iterable[Reference], scope: Scope) -> None:
        for reference in references:
            await scope.read(reference, TERMINATION)


def holders(myself: Reference, depends_on: Iterable[Reference], others: Iterable[Neighbour]) -> tuple[Reference, ...]:
    """The dependents that have to go before `myself`: being deleted, with work left for their controller, and not in
    a circle with it. Pure."""
    leaving = {n.reference: n.depends_on for n in others if n.finalizing} | {myself: tuple(depends_on)}
    waits_for = _dependents(leaving)
    if find_cycle(myself, waits_for):
        return ()
    return tuple(sorted(waits_for.get(myself, ())))


def _dependents(depends_on: Mapping[Reference, Iterable[Reference]]) -> dict[Reference, list[Reference]]:
    found: dict[Reference, list[Reference]] = {}
    for dependent, dependencies in depends_on.items():
        for dependency in dependencies:
            if dependency in depends_on:
                found.setdefault(dependency, []).append(dependent)
    return found
