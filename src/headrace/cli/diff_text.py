"""What differs between two objects, field by field, and as text in the manner of `flux diff`. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from headrace.cli.output import Format, dump

ABSENT = msgspec.UNSET
"""Stands for the value of a field that is not there."""

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


class FieldChange(msgspec.Struct, frozen=True):
    """One field that differs. `path` is written with dots, list entries by their name or index; ABSENT before or after
    says that the field comes or goes."""

    path: str
    before: Any = ABSENT
    after: Any = ABSENT

    @property
    def parent(self) -> str:
        """The path of the map that the field is in."""
        if self.path.endswith("]"):
            return self.path[: self.path.rindex("[")].rstrip(".")
        return self.path.rpartition(".")[0]


class ItemChange(FieldChange, frozen=True):
    """An entry of a list that comes or goes; `path` is the list's."""

    @property
    def parent(self) -> str:
        return self.path


def field_changes(before: Any, after: Any, path: str = "") -> list[FieldChange]:
    """Every difference between two values of JSON, in the order of the first."""
    if isinstance(before, dict) and isinstance(after, dict):
        return list(_of_maps(before, after, path))
    if before == after and type(before) is type(after):
        return []  # of plain values, 1 and true are equal in Python, but not in JSON
    if isinstance(before, list) and isinstance(after, list):
        return list(_of_lists(before, after, path))
    return [FieldChange(path, before, after)]


def _of_maps(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[FieldChange]:
    for key in [*before, *(key for key in after if key not in before)]:
        inner = f"{path}.{_segment(key)}" if path else _segment(key)
        if key in before and key in after:
            yield from field_changes(before[key], after[key], inner)
        else:
            yield FieldChange(inner, before.get(key, ABSENT), after.get(key, ABSENT))


def _segment(key: str) -> str:
    """Keys with dots or slashes in brackets, so that a path can be read back."""
    return f"[{key}]" if "." in key or "/" in key else key


def _of_lists(before: Sequence[Any], after: Sequence[Any], path: str) -> Iterator[FieldChange]:
    """By name where all entries have one, as Kubernetes merges them; else by place, or as entries that come and go."""
    names = _names(before), _names(after)
    if names[0] is not None and names[1] is not None:
        olds, news = dict(zip(names[0], before, strict=True)), dict(zip(names[1], after, strict=True))
        for name in [*olds, *(name for name in news if name not in olds)]:
            if name in olds and name in news:
                yield from field_changes(olds[name], news[name], f"{path}.{_segment(name)}")
            else:
                yield ItemChange(path, olds.get(name, ABSENT), news.get(name, ABSENT))
    elif len(before) == len(after) and _maps([*before, *after]):
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from field_changes(old, new, f"{path}.{place}")
    else:
        gone: list[FieldChange] = [ItemChange(path, before=item) for item in before if item not in after]
        come: list[FieldChange] = [ItemChange(path, after=item) for item in after if item not in before]
        # neither: the same entries in another order, or another number of times
        yield from gone + come or [FieldChange(path, before, after)]


def _maps(items: Sequence[Any]) -> bool:
    return all(isinstance(item, dict) for item in items)


def _names(items: Sequence[Any]) -> list[str] | None:
    """The names of entries; None when one has none, or two have the same."""
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        return None
    return [str(name) for name in names]


def encode(change: FieldChange) -> dict[str, Any]:
    """A change as data."""
    values = {"before": change.before, "after": change.after}
    return {"path": change.path} | {key: value for key, value in values.items() if value is not ABSENT}


def masked(change: FieldChange, mask: Callable[[str], str]) -> FieldChange:
    """The change with `mask` over every text in it."""
    return msgspec.structs.replace(change, before=_over(change.before, mask), after=_over(change.after, mask))


def _over(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_over(item, mask) for item in value]
    if isinstance(value, dict):
        return {key: _over(item, mask) for key, item in value.items()}
    return value


# -- text --------------------------------------------------------------------------------------------------------------


def report(changes: Sequence[FieldChange]) -> str:
    """The changes as flux shows them: the path, then what happened there. Entries that come or go are shown together
    below the map or list that they belong to."""
    lines: list[str] = []
    shown: set[tuple[str, bool]] = set()
    for change in changes:
        if ABSENT not in (change.before, change.after):
            lines += ["", change.path or "(root level)", *_value_change(change.before, change.after)]
            continue
        group = (change.parent, isinstance(change, ItemChange))
        if group not in shown:
            shown.add(group)
            lines += ["", change.parent or "(root level)", *_entries(changes, *group)]
    return "\n".join([*lines, ""]) if lines else ""


def _value_change(before: Any, after: Any) -> list[str]:
    if type(before) is not type(after):
        return [f"  ± type change from {_type(before)} to {_type(after)}", *_yaml("- ", before), *_yaml("+ ", after)]
    if isinstance(before, str) and ("\n" in before or "\n" in after):
        lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=3, lineterm=""))[2:]
        return ["  ± value change in multiline text", *(f"    {line}" for line in lines)]
    return ["  ± value change", *_yaml("- ", before), *_yaml("+ ", after)]


def _type(value: Any) -> str:
    names = {dict: "map", list: "list", str: "string", bool: "bool", int: "int", float: "float", type(None): "null"}
    return names[type(value)]


def _entries(changes: Sequence[FieldChange], parent: str, items: bool) -> list[str]:
    mine = [c for c in changes if c.parent == parent and isinstance(c, ItemChange) is items]
    gone = [(c.path, c.before) for c in mine if c.after is ABSENT]
    come = [(c.path, c.after) for c in mine if c.before is ABSENT]
    return [*_listed("- ", "removed", gone, items), *_listed("+ ", "added", come, items)]


def _listed(sign: str, word: str, found: Sequence[tuple[str, Any]], items: bool) -> list[str]:
    if not found:
        return []
    noun = f"{'list' if items else 'map'} {'entry' if len(found) == 1 else 'entries'}"
    value: Any = [v for _, v in found] if items else {_key(path): v for path, v in found}
    return [f"  {sign}{_number(len(found))} {noun} {word}:", *_yaml("", value)]


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _key(path: str) -> str:
    """The last segment of a path, without brackets."""
    if path.endswith("]"):
        return path[path.rindex("[") + 1 : -1]
    return path.rpartition(".")[2]


def _yaml(sign: str, value: Any) -> list[str]:
    text = dump(value, Format.YAML).removesuffix("\n...") if isinstance(value, dict | list) else _scalar(value)
    first, *rest = text.split("\n")
    return [f"    {sign}{first}", *(f"    {' ' * len(sign)}{line}" for line in rest)]


def _scalar(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)
