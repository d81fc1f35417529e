"""The Kustomization that a command is about: from the cluster, from a file, or both as `flux build` combines them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headrace.api.kinds import KUSTOMIZATION
from headrace.api.kustomization import Kustomization
from headrace.cli.exits import NOT_FOUND, USAGE, CommandError
from headrace.kube.objects import decode_object
from headrace.model.objects import LiveObject


@dataclass(frozen=True, slots=True)
class Named:
    """A Kustomization, decoded and as JSON."""

    ks: Kustomization
    live: LiveObject


def combined(name: str, namespace: str, file: Path | None, live: LiveObject | None) -> Named:
    """The file's specification goes before the cluster's; the status, which holds the inventory, is the cluster's.

    Raises CommandError(NOT_FOUND) when it is in neither, CommandError(USAGE) when it cannot be decoded.
    """
    if file is None:
        if live is None:
            raise CommandError(f'kustomizations.{KUSTOMIZATION.group} "{name}" not found in {namespace}', NOT_FOUND)
        return named(live)
    content = in_file(file, name, namespace)
    if live is not None:
        stored = live.content()
        content["status"] = stored.get("status") or {}
        content["metadata"]["uid"] = stored["metadata"].get("uid", "")
    return named(decode_object(msgspec.json.encode(content)))


def named(live: LiveObject) -> Named:
    """Raises CommandError(USAGE) when the object is not as its definition says."""
    try:
        return Named(live.decode(Kustomization), live)
    except msgspec.MsgspecError as error:
        raise CommandError(f"{live.reference}: {error}", USAGE) from None


def in_file(file: Path, name: str, namespace: str) -> dict[str, Any]:
    """The Kustomization of that name, and of that namespace or none, among the documents of a file. Raises
    CommandError(USAGE)."""
    for document in _documents(file):
        metadata = document.get("metadata") or {}
        group = str(document.get("apiVersion", "")).partition("/")[0]
        if (group, document.get("kind"), metadata.get("name")) != (*KUSTOMIZATION.group_kind, name):
            continue
        if metadata.get("namespace") in (None, "", namespace):
            return document | {"metadata": metadata | {"namespace": namespace}}
    raise CommandError(
        f"failed to find kustomization with name '{name}' and namespace '{namespace}' in file '{file}'", USAGE
    )


def _documents(file: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        documents = list(yaml.load_all(file.read_bytes(), Loader=yaml.CSafeLoader))
    except OSError as error:
        raise CommandError(f"invalid kustomization file '{file}': {error.strerror}", USAGE) from None
    except yaml.YAMLError as error:
        raise CommandError(f"failed to read kustomization file '{file}': {error}", USAGE) from None
    return [document for document in documents if isinstance(document, dict)]
