"""Canaries: secrets planted in the inputs of an engine, and where it could have left them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import secrets
import stat
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus


class Canaries:
    """Secrets by what they were planted in. `public` are those that stand in files of a repository as they are."""

    def __init__(self) -> None:
        self._forms: dict[str, frozenset[bytes]] = {}
        self._public: set[str] = set()

    def new(self, what: str, *, public: bool = False) -> str:
        """A secret of its own, of characters that are written in several ways."""
        return self.known(what, f"Cy{secrets.token_hex(9)}/+{secrets.token_hex(4)}", public=public)

    def known(self, what: str, value: str, *, public: bool = False) -> str:
        """A secret that is what it is."""
        self._forms[what] = frozenset(form for form in _forms(value) if len(form) > 5)
        if public:
            self._public.add(what)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._forms)

    def within(self, content: bytes, *, of_users: bool = False) -> list[str]:
        """Which of them are in a text, in any form. Files `of_users` may hold what they had in clear."""
        return [
            what for what, forms in self._forms.items()
            if not (of_users and what in self._public) and any(form in content for form in forms)
        ]  # fmt: skip

    def escaped(self, places: Iterable[tuple[str, bytes]]) -> list[str]:
        """`CANARY in PLACE: the text around it` for all that are where they must not be."""
        return sorted({
            f"{what} in {place}: {self._around(what, content)}"
            for place, content in places for what in self.within(content, of_users=place.startswith("content "))
        })  # fmt: skip

    def _around(self, what: str, content: bytes) -> str:
        at = min(found for form in self._forms[what] if (found := content.find(form)) >= 0)
        return repr(content[max(0, at - 100) : at + 60])


def _forms(value: str) -> Iterator[bytes]:
    """As it is, escaped for JSON or a URL, and in base64 wherever it begins."""
    raw = value.encode()
    for text in (
        value,
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        value.replace("\n", "\\n"),
        value.replace("/", "\\/"),
        quote(quote(value, safe=""), safe=""),
    ):
        yield text.encode()
    for before in range(3):
        padded = b"\0" * before + raw
        whole = padded[: len(padded) // 3 * 3]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(whole)[4 if before else 0 :]


def files_below(directory: Path) -> Iterator[tuple[str, bytes]]:
    """What is in files, of packed ones what was packed as well. Mirrors and artifacts, which are the users' own
    content, are called `content`."""
    for path in sorted(directory.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # it was a temporary one
            if not stat.S_ISREG(path.lstat().st_mode):
                continue
            content = path.read_bytes()
            name = path.relative_to(directory)
            yield f"{'content' if _is_of_users(name) else 'file'} {name}", content + _unpacked(content)


def _unpacked(content: bytes) -> bytes:
    try:
        if content[:2] == b"\x1f\x8b":
            return gzip.decompress(content)
        if content[:1] == b"\x78":  # an object of git
            return zlib.decompress(content)
    except (OSError, EOFError, zlib.error):
        return b""
    return b""


def _is_of_users(name: Path) -> bool:
    kept = {"content", "objects", "trees"} & set(name.parts)
    return name.parts[0] == "storage" and bool(kept or name.suffix in (".gz", ".pack", ".tgz"))
