"""git's pkt-line format and the two shapes in which servers list refs (protocol 0/1 and 2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from headrace.source.git.errors import GitError
from headrace.source.git.refs import RefTarget

FLUSH = b"0000"
DELIMITER = b"0001"
_LENGTH = re.compile(rb"[0-9a-fA-F]{4}")
_OID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_PEELED = "^{}"


@dataclass(frozen=True, slots=True)
class Advertisement:
    """The answer to `info/refs`: a version 2 server names its capabilities, an older one all its refs."""

    version: int
    capabilities: frozenset[str]
    refs: dict[str, RefTarget]

    @property
    def object_format(self) -> str:
        named = (item.removeprefix("object-format=") for item in self.capabilities if item.startswith("object-format="))
        return next(named, "sha1")


def packet(text: str) -> bytes:
    """One line with its length before it."""
    data = text.encode() + b"\n"
    return b"%04x" % (len(data) + 4) + data


def packets(data: bytes) -> Iterator[bytes]:
    """The lines, without newline; control packets come as None would: they are left out. Raises GitError."""
    position = 0
    while position < len(data):
        prefix = data[position : position + 4]
        if not _LENGTH.fullmatch(prefix):
            raise GitError("the server's answer is no git protocol")
        length = int(prefix, 16)
        if length < 4:
            position += 4
            continue
        if position + length > len(data) or length == 4:
            raise GitError("the server's answer ends too early")
        line = data[position + 4 : position + length]
        if line.startswith(b"ERR "):
            raise GitError("remote: " + line[4:].decode("utf-8", "replace").strip()[:256])
        yield line.removesuffix(b"\n")
        position += length


def parse_advertisement(data: bytes) -> Advertisement:
    """Read the answer to `info/refs?service=git-upload-pack`. Raises GitError."""
    if not data.endswith(FLUSH):
        raise GitError("the server's answer ends too early")
    lines = [line for line in packets(data) if not line.startswith(b"# service=")]
    if lines and lines[0] == b"version 2":
        return Advertisement(2, frozenset(line.decode("utf-8", "replace") for line in lines[1:]), {})
    if lines and lines[0] == b"version 1":
        lines = lines[1:]
    if not lines:
        raise GitError("the server's answer lists nothing")
    first, _, capabilities = lines[0].partition(b"\0")
    return Advertisement(0, frozenset(capabilities.decode("utf-8", "replace").split()), _old_refs([first, *lines[1:]]))


def _old_refs(lines: Iterable[bytes]) -> dict[str, RefTarget]:
    refs: dict[str, RefTarget] = {}
    for line in lines:
        oid, _, name = line.decode("utf-8", "surrogateescape").partition(" ")
        if name == "capabilities^{}" or oid == "shallow":
            continue
        _check_oid(oid)
        _check_name(name)
        if name.endswith(_PEELED):
            tag = name.removesuffix(_PEELED)
            refs[tag] = RefTarget(refs[tag].oid if tag in refs else oid, oid)
        else:
            refs[name] = RefTarget(oid)
    return refs


def ls_refs_request(prefixes: Sequence[str], object_format: str, agent: str) -> bytes:
    """The version 2 command that lists refs with their peeled commits."""
    head = packet("command=ls-refs") + packet(f"agent={agent}") + packet(f"object-format={object_format}")
    wanted = b"".join(packet(f"ref-prefix {prefix}") for prefix in prefixes)
    return head + DELIMITER + packet("peel") + wanted + FLUSH


def parse_ls_refs(data: bytes) -> dict[str, RefTarget]:
    """Read the answer to `ls_refs_request`. Raises GitError."""
    if not data.endswith(FLUSH):
        raise GitError("the server's answer ends too early")
    refs: dict[str, RefTarget] = {}
    for line in packets(data):
        oid, _, rest = line.decode("utf-8", "surrogateescape").partition(" ")
        if oid == "unborn":
            continue
        name, *attributes = rest.split(" ")
        _check_oid(oid)
        _check_name(name)
        peeled = next((item.removeprefix("peeled:") for item in attributes if item.startswith("peeled:")), "")
        if peeled:
            _check_oid(peeled)
        refs[name] = RefTarget(oid, peeled)
    return refs


def _check_oid(oid: str) -> None:
    """Object ids go into arguments and file names: nothing else may come as one."""
    if not _OID.fullmatch(oid):
        raise GitError("the server's answer holds an invalid object id")


def _check_name(name: str) -> None:
    if not name:
        raise GitError("the server's answer holds a ref without a name")
