"""Secrets that SOPS has encrypted, where nobody has the key: their values become `**SOPS**`, as `flux build` has it.

Only their keys can be compared with what the cluster holds.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from headrace.model.manifests import Manifest
from headrace.model.objects import LiveObject

Json = dict[str, Any]

MASK = "**SOPS**"
ENCRYPTED = "ENC["
_ENCODED = base64.b64encode(MASK.encode()).decode()
_DOCKER = "kubernetes.io/dockerconfigjson"
_DOCKER_MASK = '{"mask":"**SOPS**"}'

_SUFFIXES = (".yaml", ".yml", ".json")


@contextlib.contextmanager
def readable(root: Path) -> Iterator[Path]:
    """A directory that holds what `root` does with everything encrypted masked: `root` itself when nothing is, else
    a copy that is gone when the context is left."""
    encrypted = encrypted_files(root)
    if not encrypted:
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(root, copy, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        for file in encrypted:
            mask_file(copy / file.relative_to(root))
        yield copy


def encrypted_files(root: Path) -> list[Path]:
    """The manifests below a directory that hold something encrypted by SOPS."""
    return [file for file in _manifests(root) if _is_encrypted(file.read_bytes())]


ANY_KIND = "*"


def encrypted_kinds(root: Path) -> frozenset[str]:
    """The kinds besides Secret of which something below a directory is encrypted; ANY_KIND for what does not tell its
    own, as a patch may."""
    from headrace.core.documents import YamlRefused, load_documents

    found = set()
    for file in encrypted_files(root):
        try:
            documents = load_documents(file.read_bytes())
        except YamlRefused:
            return frozenset({ANY_KIND})
        kinds = [str(d.get("kind", ENCRYPTED)) for d in documents if isinstance(d, dict) and "sops" in d]
        found |= {ANY_KIND if kind.startswith(ENCRYPTED) else kind for kind in kinds}
    return frozenset(found - {"Secret"})


def _manifests(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != ".git"]
        for name in files:
            path = Path(folder, name)
            if name.endswith(_SUFFIXES) and path.is_file() and not path.is_symlink():
                yield path


def _is_encrypted(content: bytes) -> bool:
    return b"sops" in content and b"ENC[" in content and b"mac" in content


def mask_file(path: Path) -> None:
    """Rewrite a file with its encrypted objects masked. One that is no YAML is left as it is: the build says so."""
    import yaml

    from headrace.core.documents import YamlRefused, load_documents

    try:
        documents = load_documents(path.read_bytes())
    except YamlRefused:
        return
    shown = [mask_object(d) if isinstance(d, dict) and "sops" in d else d for d in documents]
    path.chmod(0o600)  # trees of artifacts are read-only
    path.write_text(yaml.dump_all(shown, Dumper=yaml.CSafeDumper, sort_keys=False))


def mask_object(document: Json) -> Json:
    """An encrypted object without what SOPS has added; of a Secret with masks for values."""
    shown = {key: value for key, value in document.items() if key != "sops"}
    if document.get("kind") != "Secret":
        return shown
    mask = _DOCKER_MASK if document.get("type") == _DOCKER else MASK
    encoded = base64.b64encode(mask.encode()).decode()
    for field, value in (("data", encoded), ("stringData", mask)):
        if isinstance(document.get(field), dict):
            shown[field] = dict.fromkeys(document[field], value)
    return shown


def mask_manifest(manifest: Manifest) -> Manifest:
    """A built Secret with masks for values that are encrypted files, as secretGenerator makes them."""
    if manifest.reference.group_kind != ("", "Secret") or b'"data"' not in manifest.body:
        return manifest
    content: Json = msgspec.json.decode(manifest.body)
    data = content.get("data")
    if not isinstance(data, dict) or not any(_is_encrypted(_decoded(value)) for value in data.values()):
        return manifest
    content["data"] = {key: _ENCODED if _is_encrypted(_decoded(value)) else value for key, value in data.items()}
    return msgspec.structs.replace(manifest, body=msgspec.json.encode(content))


def _decoded(value: object) -> bytes:
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        return b""


def unmasked_values(answer: LiveObject, live: LiveObject) -> Json:
    """What a Secret would be, with the values that the cluster holds in place of masks: so only other keys differ."""
    shown, known = answer.content(), live.content().get("data") or {}
    data = shown.get("data") or {}
    shown["data"] = {key: known.get(key, value) if is_mask(value) else value for key, value in data.items()}
    if not data:
        del shown["data"]
    return shown


def is_mask(value: object) -> bool:
    return MASK.encode() in _decoded(value)
