"""Commits at random: objects come, change, go, move between Kustomizations, break and are mended. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from tests.fault.model.desired import (
    CRD,
    GROUP,
    HOME,
    OWNERS,
    SECOND,
    Breakage,
    Item,
    Key,
    Revision,
    file_name,
    manifest,
)  # fmt: skip

NAMES = {"ConfigMap": 5, "Secret": 3, "ServiceAccount": 3, "Deployment": 2, "Widget": 3}
EXTRA = Key("Namespace", "", "extra")
POOL = tuple(
    Key(kind, namespace, f"{kind[0].lower()}{number}")
    for kind, count in NAMES.items() for namespace in (HOME, SECOND) for number in range(count)
)  # fmt: skip
"""All objects that ever come, the definition, the namespace and the anchors apart: few, so that names come again."""


def anchor(owner: str) -> Item:
    """The object that a Kustomization always has: one without files would be another story."""
    return Item(Key("ConfigMap", HOME, f"anchor-{owner}"), "anchor")


class Draft:
    """A commit in the making, from the revision before it."""

    def __init__(self, before: Revision | None, chance: random.Random) -> None:
        self.index = 0 if before is None else before.index + 1
        self.chance = chance
        self.wanted = {owner: dict(before.wanted[owner]) if before else _initial(owner) for owner in OWNERS}
        self.broken = dict(before.broken) if before else {}
        self.did: list[str] = []

    def revision(self) -> Revision:
        return Revision(self.index, self.wanted, self.broken, tuple(self.did))

    # -- what may be done ------------------------------------------------------------------------------------------

    def add(self) -> None:
        taken = {key for wanted in self.wanted.values() for key in wanted}
        free = [key for key in POOL if key not in taken and (key.kind != "Widget" or CRD in taken)]
        if free:
            self._put(self._owner(), self.chance.choice(free), "add")

    def change(self) -> None:
        owner = self._owner()
        self._put(owner, self.chance.choice(list(self.wanted[owner])), "change")

    def remove(self) -> None:
        owner = self._owner()
        if keys := self._ordinary(owner):
            self._drop(owner, self.chance.choice(keys), "remove")

    def move(self) -> None:
        """Some objects of one Kustomization to others, changed or as they are."""
        source = self._owner()
        keys = self._ordinary(source)
        for key in self.chance.sample(keys, min(len(keys), self.chance.randint(1, 3))):
            target = self.chance.choice([owner for owner in OWNERS if owner != source])
            item = self.wanted[source][key]
            self._drop(source, key, f"move to {target}")
            self.wanted[target][key] = item
            if self.chance.random() < 0.3:
                self._put(target, key, "and change")

    def swap(self) -> None:
        """Two Kustomizations exchange all that they have."""
        one, other = self.chance.sample(OWNERS, 2)
        moving = {owner: {key: self.wanted[owner][key] for key in self._ordinary(owner)} for owner in (one, other)}
        for source, target in ((one, other), (other, one)):
            for key, item in moving[source].items():
                self._forget_breakage(source, key)
                self.wanted[source].pop(key, None)
                self.wanted[target][key] = item
        self.did.append(f"swap {one} and {other}")

    def break_one(self) -> None:
        owner = self._owner()
        if owner not in self.broken:
            breakage = self.broken[owner] = self._breakage(owner)
            self.did.append(f"break {owner}: {breakage.what}")

    def fix(self) -> None:
        if self.broken:
            owner = self.chance.choice(sorted(self.broken))
            del self.broken[owner]
            self.did.append(f"fix {owner}")

    def definition(self) -> None:
        """The definition comes, moves, or goes with all that needs it."""
        owner = next((owner for owner in OWNERS if CRD in self.wanted[owner]), "")
        if not owner:
            self._put(self._owner(), CRD, "add")
            for number in range(self.chance.randint(0, 2)):
                key = Key("Widget", self.chance.choice((HOME, SECOND)), f"w{number}")
                self._put(self._owner(), key, "add")
        elif self.chance.random() < 0.5:
            for each in OWNERS:
                for key in [key for key in self.wanted[each] if key.kind == "Widget"]:
                    self._drop(each, key, "remove")
            self._drop(owner, CRD, "remove")

    def namespace(self) -> None:
        owner = next((owner for owner in OWNERS if EXTRA in self.wanted[owner]), "")
        if owner:
            self._drop(owner, EXTRA, "remove")
        else:
            self._put(self._owner(), EXTRA, "add")

    # -- parts -----------------------------------------------------------------------------------------------------

    def _owner(self) -> str:
        return self.chance.choice(OWNERS)

    def _ordinary(self, owner: str) -> list[Key]:
        """What may move or go by itself."""
        return [key for key in self.wanted[owner] if key.kind in NAMES and not key.name.startswith("anchor")]

    def _put(self, owner: str, key: Key, what: str) -> None:
        for each in OWNERS:
            if each != owner:
                self.wanted[each].pop(key, None)
        self._forget_breakage(owner, key)
        color = "blue" if self.chance.random() < 0.5 and key.kind != "Secret" else "plain"
        more = str(self.chance.randrange(100)) if self.chance.random() < 0.3 else ""
        self.wanted[owner][key] = Item(key, f"{color}-{self.index}-{self.chance.randrange(1000)}", more)
        self.did.append(f"{what} {owner}:{key}")

    def _drop(self, owner: str, key: Key, what: str) -> None:
        self._forget_breakage(owner, key)
        del self.wanted[owner][key]
        self.did.append(f"{what} {owner}:{key}")

    def _forget_breakage(self, owner: str, key: Key) -> None:
        if owner in self.broken and self.broken[owner].item == key:
            del self.broken[owner]

    def _breakage(self, owner: str) -> Breakage:
        kinds: list[Callable[[str], Breakage]] = [
            _missing_namespace, _unknown_kind, _unresolvable, _unreadable, self._invalid,
        ]  # fmt: skip
        return self.chance.choice(kinds)(owner)

    def _invalid(self, owner: str) -> Breakage:
        """A wanted object with a field that no API server takes."""
        keys = [key for key in self.wanted[owner] if key.kind in ("ConfigMap", "Deployment", "Secret")]
        key = self.chance.choice(keys)
        body = manifest(self.wanted[owner][key])
        if key.kind == "Deployment":
            body["spec"]["replicas"] = "many"
        else:
            body["data"]["value"] = {"of": "no such type"}
        return Breakage("invalid field", file_name(key), json.dumps(body), key)


def _initial(owner: str) -> dict[Key, Item]:
    item = anchor(owner)
    return {item.key: item}


def _broken_file(what: str, body: object) -> Breakage:
    return Breakage(what, "broken.yaml", body if isinstance(body, str) else json.dumps(body))


def _missing_namespace(owner: str) -> Breakage:
    metadata = {"name": f"lost-{owner}", "namespace": "nowhere"}
    return _broken_file("missing namespace", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def _unknown_kind(owner: str) -> Breakage:
    metadata = {"name": f"gizmo-{owner}", "namespace": HOME}
    return _broken_file("unknown kind", {"apiVersion": f"{GROUP}/v1", "kind": "Gizmo", "metadata": metadata})


def _unresolvable(owner: str) -> Breakage:
    metadata = {"name": f"open-{owner}", "namespace": HOME}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": "${nobody_knows}"}}
    return _broken_file("unresolvable variable", body)


def _unreadable(owner: str) -> Breakage:
    return _broken_file("no YAML", "a: [b\n")


WEIGHTS: dict[str, int] = {
    "add": 30, "change": 25, "remove": 20, "move": 18, "swap": 3, "break_one": 7, "fix": 10, "definition": 5,
    "namespace": 4,
}  # fmt: skip


def commit(before: Revision | None, chance: random.Random) -> Revision:
    """The next revision. The first one has a few objects."""
    draft = Draft(before, chance)
    if before is None:
        draft.definition()
        for _ in range(12):
            draft.add()
        return draft.revision()
    for what in chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=chance.choice((1, 1, 2, 3, 5))):
        getattr(draft, what)()
    return draft.revision()


def mended(before: Revision, chance: random.Random) -> Revision:
    """A revision in which nothing is broken."""
    draft = Draft(before, chance)
    while draft.broken:
        draft.fix()
    draft.change()
    return draft.revision()
