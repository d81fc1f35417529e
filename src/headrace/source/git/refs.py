"""Which commit is wanted and which one that is: precedence, names and revisions of sources.md 2.1."""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.api.gitrepository import GitRepositoryRef
from headrace.core.paths import printable
from headrace.model.read import ABSENT
from headrace.source.git.errors import RefNotFound
from headrace.source.versions import MatchVersions

DEFAULT_BRANCH = "master"
HEADS = "refs/heads/"
TAGS = "refs/tags/"

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_NOT_IN_REFS = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_VERSION = re.compile(r"v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_LEGACY_REVISION = re.compile(r"(?:(?P<name>.+)/)?(?P<hash>[0-9a-f]{40}|[0-9a-f]{64})")


class RefKind(enum.Enum):
    BRANCH = "branch"
    TAG = "tag"
    SEMVER = "semver"
    NAME = "name"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class WantedRef:
    """What `spec.ref` asks for, after its precedence. `within` narrows a commit to a branch or names it."""

    kind: RefKind
    value: str
    within: str = ""

    @property
    def prefix(self) -> str:
        """The ref to ask the server for; empty for a commit, which needs no asking."""
        match self.kind:
            case RefKind.BRANCH:
                return HEADS + self.value
            case RefKind.TAG:
                return TAGS + self.value
            case RefKind.SEMVER:
                return TAGS
            case RefKind.NAME:
                return self.value
        return ""


@dataclass(frozen=True, slots=True)
class RefTarget:
    """Where a ref points: to the object `oid`, which for an annotated tag is not yet the commit."""

    oid: str
    peeled: str = ""

    @property
    def commit(self) -> str:
        return self.peeled or self.oid


@dataclass(frozen=True, slots=True)
class Resolved:
    """A commit that was found for a wanted ref, and the revision by which users know it.

    `oid` is what to ask the server for, `ref` where it was seen (empty for a commit given by its hash).
    """

    commit: str
    oid: str
    revision: str
    ref: str = ""
    branch: str = ""


def wanted(ref: GitRepositoryRef | None) -> WantedRef:
    """Commit before name before tag before semver before branch (SRC-GIT-10, SRC-GIT-11).

    Raises ValueError for names that git would not accept as a ref, or a commit that is no full hash (SEC-07, SEC-09).
    """
    ref = ref or GitRepositoryRef()
    if ref.commit:
        if not _COMMIT.fullmatch(ref.commit):
            raise ValueError(f"commit {printable(ref.commit)} is not a full commit hash")
        for name in (ref.name, ref.branch):
            check_ref_name(name or DEFAULT_BRANCH)
        return WantedRef(RefKind.COMMIT, ref.commit, ref.name or (HEADS + ref.branch if ref.branch else ""))
    if ref.semver and not ref.name and not ref.tag:
        return WantedRef(RefKind.SEMVER, ref.semver)
    kind, value = RefKind.BRANCH, ref.branch or DEFAULT_BRANCH
    if ref.name:
        kind, value = RefKind.NAME, ref.name
    elif ref.tag:
        kind, value = RefKind.TAG, ref.tag
    check_ref_name(value)
    return WantedRef(kind, value)


def check_ref_name(name: str) -> None:
    """Raise ValueError unless git accepts the name as (part of) a ref; it goes into arguments and file names."""
    parts = name.split("/")
    bad_part = any(part.startswith(".") or part.endswith(".lock") for part in parts)
    if not name or name.startswith(("-", "/")) or name.endswith(("/", ".")) or bad_part or _NOT_IN_REFS.search(name):
        raise ValueError(f"ref {printable(name)} is not a valid name")


def revision(name: str, commit: str) -> str:
    """`main@sha1:<hex>`, or without a name `sha1:<hex>`."""
    algorithm = "sha1" if len(commit) == 40 else "sha256"
    return f"{name}@{algorithm}:{commit}" if name else f"{algorithm}:{commit}"


def canonical_revision(text: str) -> str:
    """A revision as of today; `main/<sha>` and a bare hash are the forms before Flux 2.0 (SRC-GIT-13)."""
    match = _LEGACY_REVISION.fullmatch(text)
    return revision(match["name"] or "", match["hash"]) if match else text


def resolve_commit(want: WantedRef) -> Resolved:
    """The answer for a commit given by its hash: nobody needs to be asked (SRC-GIT-09)."""
    name = want.within.removeprefix(HEADS)
    branch = want.within if want.within.startswith(HEADS) else ""
    if want.within and not branch:
        name = want.within
    return Resolved(want.value, want.value, revision(name, want.value), branch=branch)


async def resolve(want: WantedRef, refs: Mapping[str, RefTarget], match_versions: MatchVersions) -> list[Resolved]:
    """The commit for a branch, tag, name or semver range among `refs`.

    More than one only for versions of equal precedence, among which the newest commit is meant (SRC-GIT-07).
    Raises RefNotFound; ValueError for a bad range.
    """
    if want.kind is RefKind.SEMVER:
        return await _resolve_version(want.value, refs, match_versions)
    target = refs.get(want.prefix)
    if target is None:
        raise RefNotFound(f"couldn't find remote ref '{want.prefix}'")
    return [Resolved(target.commit, target.oid, revision(want.value, target.commit), want.prefix)]


async def _resolve_version(
    wanted_range: str, refs: Mapping[str, RefTarget], match_versions: MatchVersions
) -> list[Resolved]:
    names = [ref.removeprefix(TAGS) for ref in refs if ref.startswith(TAGS)]
    tags = await match_versions(wanted_range, [name for name in names if _VERSION.fullmatch(name)])
    if not tags:
        raise RefNotFound(f"no match found for semver: {wanted_range}")
    best = _precedence(tags[0])
    found = []
    for tag in (tag for tag in tags if _precedence(tag) == best):
        target = refs[TAGS + tag]
        found.append(Resolved(target.commit, target.oid, revision(tag, target.commit), TAGS + tag))
    return found


def _precedence(tag: str) -> str:
    return tag.removeprefix("v").partition("+")[0]


def part_digest(prefix: str, refs: Mapping[str, RefTarget]) -> str:
    """What a reader of `prefix` saw: changes when that ref moves, or for `refs/tags/` any of them."""
    if not prefix.endswith("/"):
        target = refs.get(prefix)
        return target.oid if target else ABSENT
    listed = "\n".join(sorted(f"{ref} {target.oid}" for ref, target in refs.items() if ref.startswith(prefix)))
    return hashlib.blake2b(listed.encode(), digest_size=16).hexdigest()
