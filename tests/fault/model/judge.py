"""The invariants, judged over what happened, in the order in which it happened (REL-43).

W  nothing foreign is deleted or changed; what is deleted was owned, listed, and wanted by nobody at a revision that its
   owner may have been at and that was not broken for it
O  an object with owner labels is in the inventory of that Kustomization, from the moment it carries them
S  a Kustomization that becomes Ready at a revision has all of this revision's objects in the cluster

Every judgement leaves out what the foreign actor has done, as it says itself (`Foreign`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.fault.model.desired import (
    CRD,
    HOME,
    OWNERS,
    Json,
    Key,
    Repository,
    Revision,
    difference,
    inventory_id,
    values,
)  # fmt: skip
from tests.fault.model.observer import Event

NAME, NAMESPACE = "kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace"


@dataclass
class Foreign:
    """What somebody else than the engine did. `unsure` are objects of which nobody knows whether a request of theirs
    was carried out."""

    versions: set[int] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    unsure: set[Key] = field(default_factory=set)

    def did(self, event: Event) -> bool:
        if event.key in self.unsure:
            return True
        if event.type == "DELETED":
            return _uid(event.object) in self.deleted
        return event.version in self.versions


@dataclass
class Judge:
    """`judge` takes events in their order; `violations` says what must not have happened."""

    repository: Repository
    foreign: Foreign
    violations: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    """Every event in one line, for the report."""
    live: dict[Key, Json] = field(default_factory=dict)
    _forged: set[str] = field(default_factory=set)
    _theirs: set[Key] = field(default_factory=set)
    _condemned: set[str] = field(default_factory=set)

    def judge(self, events: Iterable[Event]) -> None:
        for event in events:
            self._tell(event)
            if event.key.kind == "Kustomization":
                self._kustomization(event)
            else:
                self._object(event)

    def is_forged(self, live: Json) -> bool:
        """Whether the object carries owner labels because somebody else put them on."""
        return _uid(live) in self._forged

    # -- delivered objects -----------------------------------------------------------------------------------------

    def _object(self, event: Event) -> None:
        old, theirs = self.live.get(event.key), self.foreign.did(event)
        if event.type == "DELETED":
            self.live.pop(event.key, None)
            self._theirs.discard(event.key)
        else:
            self.live[event.key] = event.object
        if theirs:
            self._theirs.add(event.key)
            if event.type != "DELETED" and owner_of(event.object) != (owner_of(old) if old else ""):
                self._forged.add(_uid(event.object))
            return
        if event.type == "DELETED" or _deleting(event.object):
            self._deletion(event)
            return
        self._write(event, old)

    def _write(self, event: Event, old: Json | None) -> None:
        """Something that the engine, or a controller of the cluster, wrote."""
        owner, before = owner_of(event.object), owner_of(old) if old else ""
        same = old is not None and values(event.key.kind, old) == values(event.key.kind, event.object)
        if same and owner == before:
            return  # a controller has written the status; what somebody else has done before still stands
        self._theirs.discard(event.key)
        self._forged.discard(_uid(event.object))
        if not owner:
            self._violation(event, "W: an object without owner labels was written, and not by somebody else")
            return
        possible = self._window(owner, event)
        if not any(event.key in revision.wanted[owner] for revision in possible):
            self._violation(event, f"W: {owner} wrote what it wants at none of {_names(possible)}")
        elif not any(
            (item := revision.wanted[owner].get(event.key)) and not difference(item, event.object)
            for revision in possible
        ):
            self._violation(event, f"L: {owner} wrote what Git says at none of {_names(possible)}")
        if inventory_id(event.key) not in self._inventory(owner):
            self._violation(event, f"O: {owner} wrote what is not in its inventory")

    def _deletion(self, event: Event) -> None:
        """W. A deletion in two steps is judged at the first."""
        uid = _uid(event.object)
        if uid in self._condemned or uid in self.foreign.deleted:
            return
        self._condemned.add(uid)
        if event.key.kind == "Widget" and (CRD not in self.live or _deleting(self.live[CRD])):
            return  # with its definition, whose deletion is judged by itself
        owner = owner_of(event.object)
        if not owner:
            self._violation(event, "W: something foreign was deleted")
            return
        if not event.listed and inventory_id(event.key) not in self._inventory(owner):
            self._violation(event, f"W: {owner} deleted what is not in its inventory")
        possible = self._window(owner, event)
        if not any(owner not in revision.broken and not revision.wants(event.key) for revision in possible):
            text = ", ".join(f"{r.index}: {r.owner(event.key) or 'nobody'}" for r in possible)
            self._violation(event, f"W: {owner} deleted what was wanted (by revision, {text})")

    def _window(self, owner: str, event: Event) -> list[Revision]:
        """The revisions that the owner may have been at: from the last one that it has told of to the newest."""
        status = self.live.get(_kustomization(owner), {}).get("status", {})
        told = (status.get("lastAppliedRevision", ""), status.get("lastAttemptedRevision", ""))
        return self.repository.between(max(map(self.repository.index, told)), event.at)

    def _inventory(self, owner: str) -> set[str]:
        return inventory_of(self.live.get(_kustomization(owner), {}))

    # -- Kustomizations --------------------------------------------------------------------------------------------

    def _kustomization(self, event: Event) -> None:
        old, self.live[event.key] = self.live.get(event.key, {}), event.object
        owner, listed = event.key.name, inventory_of(event.object)
        for key, live in self.live.items():
            untracked = key.kind != "Kustomization" and owner_of(live) == owner and inventory_id(key) not in listed
            if untracked and not (_deleting(live) or _uid(live) in self._forged or key in self.foreign.unsure):
                self._violation(event, f"O: {key} carries the labels of {owner} and is not in its inventory")
        if (claim := ready_at(event.object)) and claim != ready_at(old):
            self._claim(event, owner, self.repository.index(claim))

    def _claim(self, event: Event, owner: str, index: int) -> None:
        """S. What newer revisions want otherwise may have been changed by others meanwhile."""
        if index < 0:
            self._violation(event, "S: Ready at an unknown revision")
            return
        revision, *newer = self.repository.between(index, event.at)
        if owner in revision.broken:
            self._violation(event, f"S: {owner} is Ready at {index}, which is broken: {revision.broken[owner].what}")
        for key, item in revision.wanted[owner].items():
            if all(later.wanted[owner].get(key) == item for later in newer) and not self._excused(key):
                live = self.live.get(key)
                wrong = "is not there" if live is None else difference(item, live)
                if not wrong and live is not None and owner_of(live) != owner:
                    wrong = f"has the owner '{owner_of(live)}'"
                if wrong:
                    self._violation(event, f"S: {owner} is Ready at {index}, but {key} {wrong}")

    def _excused(self, key: Key) -> bool:
        if key in self._theirs or key in self.foreign.unsure or key.kind == "Namespace" or key == CRD:
            return True
        return key.kind == "Widget" and (CRD not in self.live or _deleting(self.live[CRD]))

    # -- report ----------------------------------------------------------------------------------------------------

    def _violation(self, event: Event, text: str) -> None:
        self.violations.append(f"{text}\n    at {_line(event)}")

    def _tell(self, event: Event) -> None:
        who = " (foreign)" if self.foreign.did(event) else ""
        self.story.append(f"{event.at:.3f} {_line(event)}{who}")


def owner_of(live: Json) -> str:
    """Which of our Kustomizations an object says it belongs to."""
    labels = live["metadata"].get("labels") or {}
    owner = labels.get(NAME, "")
    return owner if owner in OWNERS and labels.get(NAMESPACE) == HOME else ""


def inventory_of(kustomization: Json) -> set[str]:
    entries = kustomization.get("status", {}).get("inventory", {}).get("entries", [])
    return {entry["id"] for entry in entries}


def ready_at(kustomization: Json) -> str:
    """The revision at which a Kustomization says it is Ready; empty when it does not."""
    status = kustomization.get("status", {})
    ready = condition(kustomization, "Ready")
    current = status.get("observedGeneration") == kustomization.get("metadata", {}).get("generation")
    return status.get("lastAppliedRevision", "") if ready.get("status") == "True" and current else ""


def condition(kustomization: Json, name: str) -> Json:
    conditions: list[Json] = kustomization.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == name), {})


def _kustomization(owner: str) -> Key:
    return Key("Kustomization", HOME, owner)


def _uid(live: Json) -> str:
    uid: str = live["metadata"]["uid"]
    return uid


def _deleting(live: Json) -> bool:
    return "deletionTimestamp" in live["metadata"]


def _names(revisions: Iterable[Revision]) -> str:
    return "revisions " + ", ".join(str(revision.index) for revision in revisions)


def _unfinished(live: Json) -> list[str]:
    """What a namespace says about why it is not gone yet."""
    conditions = live.get("status", {}).get("conditions", [])
    return [each.get("message", "") for each in conditions if each["status"] == "True"]


def _line(event: Event) -> str:
    listed = " (listed)" if event.listed else ""
    said = f"{event.version} {event.type} {event.key}{listed}"
    if event.key.kind != "Kustomization":
        holds = "" if event.type == "DELETED" else f" {values(event.key.kind, event.object)}"
        ends = f" deleting {_unfinished(event.object)}" if _deleting(event.object) else ""
        return f"{said} of '{owner_of(event.object)}'{holds}{ends}"
    ready, status = condition(event.object, "Ready"), event.object.get("status", {})
    revisions = [status.get(name, "")[-7:] for name in ("lastAppliedRevision", "lastAttemptedRevision")]
    entries = len(inventory_of(event.object))
    says = f"Ready={ready.get('status')} {ready.get('reason')} {ready.get('message', '')[:160]!r}"
    return f"{said} {says} {revisions}, {entries} entries"
