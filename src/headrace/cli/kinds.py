"""The words by which commands name kinds, as the flux command line does: `ks`, `source git`, `gitrepository/NAME`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.api.kinds import KINDS, KUSTOMIZATION, KindInfo
from headrace.cli.exits import USAGE, CommandError

_SOURCE_WORDS = {"git": "GitRepository", "oci": "OCIRepository", "helm": "HelmRepository", "chart": "HelmChart",
                 "bucket": "Bucket", "external": "ExternalArtifact"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A kind and the name of one object of it; without a name, all of them."""

    info: KindInfo[Any]
    name: str = ""


def names_of(info: KindInfo[Any]) -> frozenset[str]:
    """All words for one kind, in lower case."""
    plain = {info.kind.lower(), info.plural, info.singular, *info.short_names}
    return frozenset(plain | {f"{word}.{info.group}" for word in plain})


def find(word: str, kinds: Iterable[KindInfo[Any]] = tuple(KINDS.values())) -> KindInfo[Any] | None:
    """The kind that `word` names, or None."""
    return next((info for info in kinds if word.lower() in names_of(info)), None)


def sources() -> tuple[KindInfo[Any], ...]:
    return tuple(info for info in KINDS.values() if "fluxcd-sources" in info.categories)


def verb_of(info: KindInfo[Any]) -> str:
    """What has been done with the revision of a Ready object: `applied revision main@sha1:...`."""
    if info is KUSTOMIZATION:
        return "applied"
    return "fetched" if info in sources() else "reconciled"


def parse_targets(words: Sequence[str]) -> tuple[Target, ...]:
    """Targets in the order given: kinds, `source KIND`, `KIND/NAME`, and names behind their kind.

    No words, or `all`, are all kinds. Raises CommandError(USAGE) on a word that is neither.
    """
    targets: list[Target] = []
    rest = [word for word in words if word]
    while rest:
        found, rest = _next(rest)
        if found is not None:
            targets.extend(found)
        elif targets:
            last = targets[-1].info
            targets = [t for t in targets if t != Target(last)] + [Target(last, rest.pop(0))]
        else:
            raise CommandError(f"unknown kind '{rest[0]}'; there are {known()}", USAGE)
    return tuple(targets) or tuple(map(Target, KINDS.values()))


def parse_target(words: Sequence[str]) -> Target:
    """Exactly one named object. Raises CommandError(USAGE)."""
    targets = parse_targets(words) if words else ()
    if len(targets) != 1 or not targets[0].name:
        raise CommandError(f"want one KIND NAME or KIND/NAME; the kinds are {known()}", USAGE)
    return targets[0]


def kustomization_name(words: Sequence[str]) -> str:
    """The name of the one Kustomization that is meant. Raises CommandError(USAGE)."""
    target = parse_target(words)
    if target.info is not KUSTOMIZATION:
        raise CommandError(f"only Kustomizations can be built, not a {target.info.singular}", USAGE)
    return target.name


def known() -> str:
    return ", ".join(info.singular for info in KINDS.values())


def _next(words: list[str]) -> tuple[list[Target] | None, list[str]]:
    """The targets at the head of `words` and what is left; None when the head is not a kind."""
    head, rest = words[0], words[1:]
    if head == "all":
        return [Target(info) for info in KINDS.values()], rest
    if head in ("source", "sources"):
        return _source(rest)
    kind, _, name = head.partition("/")
    info = find(kind)
    if info is None and "/" in head:
        raise CommandError(f"unknown kind '{kind}'; there are {known()}", USAGE)
    return ([Target(info, name)] if info else None), (rest if info else words)


def _source(words: list[str]) -> tuple[list[Target], list[str]]:
    if not words or words[0] == "all":
        return [Target(info) for info in sources()], words[1:]
    word, _, name = words[0].partition("/")
    info = find(_SOURCE_WORDS.get(word, word), sources())
    if info is None:
        raise CommandError(f"unknown source kind '{word}'", USAGE)
    return [Target(info, name)], words[1:]
