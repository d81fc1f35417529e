"""YAML files merged as Helm merges values: maps into maps, everything else replaced, the later file first (SRC-AGN-15).

Parsed by the toolbox, with the parser that everything else of the engine uses; written so that no text is taken for a
number or a boolean by any reader.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import yaml

from headrace.source.values import Values, merged_values

YamlToJson = Callable[[bytes], Awaitable[bytes]]
"""All documents of a YAML file as one JSON array of maps."""

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


async def merged(base: bytes, overlay: bytes, to_json: YamlToJson) -> bytes:
    """`overlay` merged into `base`; of a file with several documents, the later ones count more.

    Raises what `to_json` raises for what is no YAML, or no map.
    """
    values: Values = {}
    for text in (base, overlay):
        for document in msgspec.json.decode(await to_json(text), type=list[Values]):
            values = merged_values(values, document)
    return yaml.dump(values, Dumper=_Dumper, width=2**31, allow_unicode=True).encode()


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
