"""YAML files merged as Helm merges values: maps into maps, everything else replaced, the later file first (SRC-AGN-15).

Parsed by the toolbox, with the parser that everything else of the engine uses; written so that no text is taken for a
number or a boolean by any reader.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import yaml

YamlToJson = Callable[[bytes], Awaitable[bytes]]
"""All documents of a YAML file as one JSON array of maps."""

Values = dict[str, Any]

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


async def merged(base: bytes, overlay: bytes, to_json: YamlToJson) -> bytes:
    """`overlay` merged into `base`; of a file with several documents, the later ones count more.

    Raises what `to_json` raises for what is no YAML, or no map.
    """
    values: Values = {}
    for text in (base, overlay):
        for document in msgspec.json.decode(await to_json(text), type=list[Values]):
            values = merge(values, document)
    return yaml.dump(values, Dumper=_Dumper, width=2**31, allow_unicode=True).encode()


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> Values:
    """A deep merge of two maps; lists and all other values of `overlay` replace those of `base`."""
    result = dict(base)
    for key, value in overlay.items():
        known = result.get(key)
        result[key] = merge(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result


class _Dumper(yaml.SafeDumper):
    """Quotes every text that any version of YAML might read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, value: str) -> yaml.ScalarNode:
        """Plain for words, literal for several lines, else quoted."""
        style = '"'
        if "\n" in value:
            style = "|"
        elif _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            style = ""
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _Dumper.text)
