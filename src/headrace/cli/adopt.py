"""`headrace adopt --dry-run`: what would differ if headrace took a cluster over from Flux's kustomize-controller.

Taking over needs no command: the engine compares, and leaves alone what is as it should be. This tells beforehand.
"""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.api.kinds import KUSTOMIZATION
from headrace.api.kustomization import Kustomization
from headrace.apply import control, inventory
from headrace.apply.preview import Seen
from headrace.apply.rivalry import other_owner
from headrace.cli import plan
from headrace.cli.connect import Target, resource_of
from headrace.cli.exits import FAILED, OK, USAGE, CommandError
from headrace.cli.kustomization_object import named
from headrace.cli.output import Format, dump, failure, say, table
from headrace.cli.previews import Previewed, Previews, previews, step_errors
from headrace.controllers.kustomize.kustomization import owner_labels
from headrace.kube.errors import KubeError
from headrace.model.objects import LiveObject, Metadata
from headrace.model.plan import Action
from headrace.model.reference import Reference

_CONCURRENT = 4
_HINT = (
    "taking over needs no command: stop Flux's controllers, then `headrace run` or `headrace install`; "
    "--dry-run tells what would differ"
)

Found = list[tuple[Reference, Previewed | str]]


async def adopt(target: Target, form: Format, *, dry_run: bool) -> int:
    """Print what would differ for each Kustomization; FAILED when that could not be found out for one of them."""
    if not dry_run:
        raise CommandError(_HINT, USAGE)
    async with previews(target) as made:
        listing = await made.cluster.client.list(resource_of(KUSTOMIZATION), target.namespace)
        found = await _all(made, listing.items)
    say(adopt_table(found) if form is Format.TABLE else dump([_encoded(*one) for one in found], form))
    failed = {str(reference): told for reference, told in found if isinstance(told, str)}
    for reference, told in failed.items():
        failure(f"{reference}: {told}")
    return FAILED if failed or any(p.preview.failed for _, p in found if isinstance(p, Previewed)) else OK


async def _all(made: Previews, lives: tuple[LiveObject, ...]) -> Found:
    places = asyncio.Semaphore(_CONCURRENT)

    async def one(live: LiveObject) -> Previewed | str:
        async with places:
            return await _one(made, live)

    ordered = sorted(lives, key=lambda live: live.reference)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(live)) for live in ordered]
    return [(live.reference, task.result()) for live, task in zip(ordered, tasks, strict=True)]


async def _one(made: Previews, live: LiveObject) -> Previewed | str:
    """The preview, or why there is none; one Kustomization never hides the others."""
    try:
        with step_errors():
            return await made.preview(named(live), None)
    except CommandError as error:
        return error.message
    except KubeError as error:
        return str(error)


def verdict(previewed: Previewed, seen: Seen) -> str:
    """What would become of an object: the plan's word, or `foreign` for one that another Kustomization owns, or that
    exists without being delivered by this one."""
    word = plan.WORDS[seen.action]
    if seen.live is None or seen.action not in (Action.CONFIGURED, Action.UNCHANGED):
        return word
    return "foreign" if _foreign(previewed.named.ks, seen.live.metadata, seen.reference) else word


def _foreign(ks: Kustomization, live: Metadata, reference: Reference) -> bool:
    labels = owner_labels(ks)
    if control.owned(live, labels):
        return False
    entries = ks.status.inventory.entries if ks.status.inventory is not None else ()
    return bool(other_owner(live, labels)) or inventory.entry(reference, "").id not in {e.id for e in entries}


def adopt_table(found: Found) -> str:
    """The objects that would not stay untouched, and how many would."""
    rows = []
    counted: dict[str, int] = {}
    for reference, previewed in found:
        for seen in previewed.preview.objects if isinstance(previewed, Previewed) else ():
            assert isinstance(previewed, Previewed)
            word = verdict(previewed, seen)
            counted[word] = counted.get(word, 0) + 1
            if word != plan.WORDS[Action.UNCHANGED]:
                rows.append([str(reference), str(seen.reference), word, reason(previewed, seen)])
    counts = ", ".join(f"{number} {word}" for word, number in sorted(counted.items())) or "no objects"
    head = f"{len(found)} Kustomizations: {counts}"
    return "\n\n".join([table(["KUSTOMIZATION", "OBJECT", "WOULD BE", "REASON"], rows), head]) if rows else head


def reason(previewed: Previewed, seen: Seen) -> str:
    """Why, with the other owner where there is one."""
    told = plan.reason(previewed, seen)
    if seen.live is None:
        return told
    other = other_owner(seen.live.metadata, owner_labels(previewed.named.ks))
    return f"{told}; owned by {other}" if other else told


def _encoded(reference: Reference, previewed: Previewed | str) -> dict[str, Any]:
    if isinstance(previewed, str):
        return {"kustomization": {"namespace": reference.namespace, "name": reference.name}, "error": previewed}
    found = plan.encoded(previewed)
    for encoded, seen in zip(found["objects"], previewed.preview.objects, strict=True):
        encoded["action"], encoded["reason"] = verdict(previewed, seen), reason(previewed, seen)
    counted = [encoded["action"] for encoded in found["objects"]]
    return found | {"summary": {word: counted.count(word) for word in sorted(set(counted))}}
