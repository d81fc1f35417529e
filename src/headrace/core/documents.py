"""YAML of others as plain data: left alone, the parser ends the process, or raises whatever its code stumbles on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import yaml

LEVELS = 128
"""How deeply a document may be nested. The schemas of large CustomResourceDefinitions have some 60 levels."""


class YamlRefused(ValueError):
    """What is no YAML, or nested too deeply. `line` is where, 0 when nobody can say. Never holds the text itself."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class AliasesRefused(YamlRefused):
    """An alias where none may be used."""


def load_documents(text: bytes | str, *, levels: int = LEVELS) -> list[Any]:
    """All documents of a text. Raises YamlRefused."""
    with _refusing():
        _check(yaml.parse(text, Loader=yaml.CSafeLoader), levels, aliases=True)
        return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


def load_document(text: bytes | str, *, levels: int = LEVELS, aliases: bool = True) -> Any:
    """The only document of a text. Without `aliases` none may be used: they multiply. Raises YamlRefused."""
    with _refusing():
        _check(yaml.parse(text, Loader=yaml.CSafeLoader), levels, aliases)
        return yaml.load(text, Loader=yaml.CSafeLoader)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise YamlRefused("not valid YAML", mark.line + 1 if mark else 0) from None
    except YamlRefused:
        raise
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # A tag such as !!timestamp on what is none.
        raise YamlRefused("not valid YAML") from None


def _check(events: Iterator[object], levels: int, aliases: bool) -> None:
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent) and not aliases:
            raise AliasesRefused("YAML aliases are not allowed")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > levels:
                raise YamlRefused("nested too deeply")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
