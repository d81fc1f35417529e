"""Which kinds are namespaced: as the cluster serves them, or as the manifests themselves define them. Objects of the
others lose the namespace that a build may have given them (KS-INV-04)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from headrace.apply import planner
from headrace.apply.target import GroupKind, Target
from headrace.model.manifests import Manifest, Manifests

DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")


async def scoped(target: Target, manifests: Manifests) -> tuple[Manifest, ...]:
    """Manifests whose references are those that the cluster will use: without a namespace where there is none."""
    known = defined_kinds(manifests.items)
    kinds = {manifest.reference.group_kind for manifest in manifests.items if manifest.reference.namespace}
    namespaced = {kind: known.get(kind, await target.namespaced(kind)) for kind in kinds}
    return tuple(planner.with_scope(m, namespaced.get(m.reference.group_kind)) for m in manifests.items)


class _Names(msgspec.Struct, frozen=True, gc=False):
    kind: str = ""


class _DefinitionSpec(msgspec.Struct, frozen=True, gc=False):
    group: str = ""
    names: _Names = _Names()
    scope: str = ""


class _Definition(msgspec.Struct, frozen=True, gc=False):
    spec: _DefinitionSpec = _DefinitionSpec()


def defined_kinds(manifests: Iterable[Manifest]) -> dict[GroupKind, bool]:
    """The kinds that the manifests themselves define, and whether they are namespaced."""
    found: dict[GroupKind, bool] = {}
    for manifest in manifests:
        if manifest.reference.group_kind == DEFINITION:
            with contextlib.suppress(msgspec.MsgspecError):
                spec = msgspec.json.decode(manifest.body, type=_Definition).spec
                found[spec.group, spec.names.kind] = spec.scope == "Namespaced"
    return found
