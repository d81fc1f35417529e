"""Finds live Flux controllers next door, by the leases that they hold: two engines must not fight over an object."""

from __future__ import annotations

import re
from collections.abc import Iterable

from headrace.api.kinds import KINDS
from headrace.cli.exits import REFUSED, CommandError
from headrace.core.clock import Clock
from headrace.kube.client import Client
from headrace.kube.counter import LEASE
from headrace.kube.errors import Forbidden
from headrace.kube.lease import LEASES, held_now
from headrace.model.objects import LiveObject

_LEASE = re.compile(r"([a-z]+-(?:controller|watcher))-leader-election(-[0-9a-f]{8})?")
"""`kustomize-controller-leader-election`; with a suffix for each shard (sources.md section 5)."""


def components(kinds: Iterable[str]) -> frozenset[str]:
    """The upstream controllers of the kinds that are to be served; of all kinds when none is named."""
    named = frozenset(kinds)
    return frozenset(info.component for info in KINDS.values() if not named or info.kind in named)


def live_rivals(leases: Iterable[LiveObject], served: frozenset[str], clock: Clock) -> list[str]:
    """The controllers among `served` whose lease somebody holds now, as `NAMESPACE/LEASE held by WHOM`."""
    rivals = []
    for lease in leases:
        match = _LEASE.fullmatch(lease.reference.name)
        holder = held_now(lease, clock) if match and match.group(1) in served else ""
        if holder:
            rivals.append(f"{lease.reference.namespace}/{lease.reference.name} held by {holder}")
    return rivals


async def refuse_beside_flux(client: Client, kinds: Iterable[str], clock: Clock) -> None:
    """Raises CommandError(REFUSED) when a Flux controller of one of `kinds` is alive, or when that cannot be told."""
    advice = "scale it down, serve other kinds with --controllers, or say --beside-flux when they are sharded apart"
    try:
        leases = await client.list(LEASES, purpose=LEASE)
    except Forbidden as error:
        raise CommandError(f"cannot see whether Flux is running: {error}; --beside-flux skips this", REFUSED) from None
    rivals = live_rivals(leases.items, components(kinds), clock)
    if rivals:
        raise CommandError(f"Flux is running: {'; '.join(rivals)}. {advice}", REFUSED)
