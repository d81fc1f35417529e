"""spec.ignore: fields that are left as they are found on the cluster (spec section 4.5, KS-IGN-01..05). Pure.

An object is created whole. Afterwards an ignored field is no drift, and an apply that happens for another reason leaves
it to the manager who applies it too, or else carries the value that the cluster has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from headrace.api.kustomization import OWNER_NAME, OWNER_NAMESPACE, IgnoreRule, Selector
from headrace.apply.decision import differs
from headrace.apply.pattern import Pattern
from headrace.apply.signature import is_ours
from headrace.kube.selector import LabelSelector
from headrace.model.manifests import Manifest
from headrace.model.objects import LiveObject, ManagedField

Json = dict[str, Any]
Path = tuple[str, ...]

ABSENT = msgspec.UNSET
"""Stands for a field that is not there."""

PROTECTED: tuple[Path, ...] = (
    ("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"),
    ("metadata", "labels", OWNER_NAME), ("metadata", "labels", OWNER_NAMESPACE),
)
"""What an object is, and whose: no rule reaches it."""


class IgnoreRules:
    """The rules of one Kustomization. Raises ValueError naming the selector that cannot be used."""

    def __init__(self, rules: Iterable[IgnoreRule] = ()) -> None:
        rules = tuple(rules)
        self._targeted = [(_selects(rule.target), _paths(rule)) for rule in rules if rule.target is not None]
        everywhere = [_paths(rule) for rule in rules if rule.target is None]
        self._everywhere = everywhere[-1] if everywhere else ()

    def paths(self, manifest: Manifest) -> tuple[Path, ...]:
        """The fields that are ignored of one object. Of several rules without a target the last one counts."""
        found = dict.fromkeys(self._everywhere)
        for selects, paths in self._targeted:
            if selects(manifest):
                found |= dict.fromkeys(paths)
        return tuple(sorted(found, key=_order))

    def marked(self, manifests: Iterable[Manifest]) -> tuple[Manifest, ...]:
        """The manifests with their ignored fields in their digest: a rule that goes makes its objects changed ones."""
        return tuple(self._marked(manifest) for manifest in manifests)

    def _marked(self, manifest: Manifest) -> Manifest:
        paths = self.paths(manifest)
        if not paths:
            return manifest
        told = hashlib.blake2b(msgspec.json.encode(paths), digest_size=16).hexdigest()
        return msgspec.structs.replace(manifest, digest=f"{manifest.digest}-ignoring-{told}")


NOTHING = IgnoreRules()
"""No rules."""


# -- which objects, which fields -----------------------------------------------------------------------------------


def _selects(target: Selector) -> Callable[[Manifest], bool]:
    """Whether an object is meant; the expressions are anchored (KS-IGN-05)."""
    fields = ("group", "version", "kind", "namespace", "name")
    patterns = {name: _pattern(name, getattr(target, name)) for name in fields}
    labels, annotations = LabelSelector(target.label_selector), LabelSelector(target.annotation_selector)

    def selects(manifest: Manifest) -> bool:
        told = manifest.reference
        values = {"group": told.group, "version": manifest.version, "kind": told.kind, "namespace": told.namespace,
                  "name": told.name}
        named = all(pattern is None or pattern.matches(values[name]) for name, pattern in patterns.items())
        return named and labels.matches(manifest.labels) and annotations.matches(manifest.annotations)

    return selects


def _pattern(field: str, text: str) -> Pattern | None:
    try:
        return Pattern(text) if text else None
    except ValueError as error:
        raise ValueError(f"target.{field}: {error}") from None


def _paths(rule: IgnoreRule) -> tuple[Path, ...]:
    """The fields of a rule. What is no JSON pointer (RFC 6901) points at nothing, as upstream has it."""
    return tuple(
        tuple(segment.replace("~1", "/").replace("~0", "~") for segment in pointer[1:].split("/"))
        for pointer in rule.paths
        if pointer.startswith("/")
    )


def _order(path: Path) -> tuple[tuple[int, str], ...]:
    """Indices of lists by their number."""
    return tuple((len(segment), segment) for segment in path)


# -- what to do ----------------------------------------------------------------------------------------------------


def drifted(live: Json, answer: Json, paths: Iterable[Path]) -> bool:
    """Whether a dry-run changed anything but ignored fields (KS-IGN-01)."""
    if any(_value(live, path) != _value(answer, path) for path in PROTECTED):
        return True
    return differs(_without(live, paths), _without(answer, paths))


def adapted(manifest: Manifest, live: LiveObject, answer: LiveObject, paths: Iterable[Path]) -> Manifest:
    """The manifest to apply instead: without the ignored fields that another manager applies (KS-IGN-03), and with the
    cluster's values in all others (KS-IGN-02). Fields that an apply would not change stay as they are."""
    wanted, found, told = msgspec.json.decode(manifest.body), live.content(), answer.content()
    kept = {path: _value(wanted, path) for path in PROTECTED}
    for path in sorted(paths, key=_order, reverse=True):
        value = _value(found, path)
        if value == _value(told, path):
            continue
        if value is ABSENT or _applied_by_another(live, found, path):
            _remove(wanted, path)
        else:
            _set(wanted, path, value)
    for path, value in kept.items():
        if value is not ABSENT:
            _set(wanted, path, value)
    return msgspec.structs.replace(manifest, body=msgspec.json.encode(wanted))


def _applied_by_another(live: LiveObject, content: Json, path: Path) -> bool:
    return any(
        field.operation == "Apply" and not is_ours(field) and _covers(field, content, path)
        for field in live.metadata.managed_fields or ()
    )


def _covers(field: ManagedField, content: Any, path: Path) -> bool:
    """Whether a manager's field set holds the field, or all of something that it is a part of."""
    fields: Json = msgspec.json.decode(field.fields_v1)
    for segment in path:
        key = _field_key(fields, content, segment)
        if key is None:
            return False
        fields, content = fields[key], _child(content, segment)
        if not fields:
            return True
    return True


def _field_key(fields: Mapping[str, Any], content: Any, segment: str) -> str | None:
    """The key under which a field set has a member of an object or of a list."""
    if not isinstance(content, list):
        return next((key for key in (f"f:{segment}",) if key in fields), None)
    element = _child(content, segment)
    for key in fields:
        kind, _, text = key.partition(":")
        if kind == "i" and text == segment:
            return key
        if kind == "v" and msgspec.json.decode(text) == element:
            return key
        if kind == "k" and isinstance(element, dict) and msgspec.json.decode(text).items() <= element.items():
            return key
    return None


# -- JSON pointers -------------------------------------------------------------------------------------------------


def _child(content: Any, segment: str) -> Any:
    if isinstance(content, dict):
        return content.get(segment, ABSENT)
    if isinstance(content, list) and segment.isascii() and segment.isdigit() and int(segment) < len(content):
        return content[int(segment)]
    return ABSENT


def _value(content: Any, path: Path) -> Any:
    for segment in path:
        content = _child(content, segment)
    return content


def _without(content: Json, paths: Iterable[Path]) -> Json:
    copy: Json = msgspec.json.decode(msgspec.json.encode(content))
    for path in sorted(paths, key=_order, reverse=True):
        _remove(copy, path)
    return copy


def _remove(content: Any, path: Path) -> None:
    """Take a field out, and objects that are empty then: they would count as a difference."""
    parent = _value(content, path[:-1])
    if _child(parent, path[-1]) is ABSENT:
        return
    del parent[path[-1] if isinstance(parent, dict) else int(path[-1])]
    if parent == {} and len(path) > 1:
        _remove(content, path[:-1])


def _set(content: Any, path: Path, value: Any) -> None:
    """Put a field in. Objects on the way are made; what is not in a list is not added to it."""
    for segment in path[:-1]:
        if isinstance(content, dict):
            content.setdefault(segment, {})
        content = _child(content, segment)
    if isinstance(content, dict):
        content[path[-1]] = value
    elif _child(content, path[-1]) is not ABSENT:
        content[int(path[-1])] = value
