"""The CustomResourceDefinitions of all kinds, generated from their Structs.

`python -m headrace.api.crd DIRECTORY` writes one YAML file per kind; with `--check` it only compares and fails when
a file is stale. The files in `crds/` are part of the package: `headrace.api.crds()` returns them.

All versions of a kind share one schema, the union of what they declare. With the conversion strategy None the API
server stores an object as it came with just the version changed, and drops what the storage version does not
declare; and what an old client writes back would lose the fields that its version does not know.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from headrace.api.kinds import KINDS, KindInfo
from headrace.api.kustomization import SUBSTITUTE
from headrace.api.schema import Schema, struct_schema

API_VERSION_DOC = "Version of the schema of this object, as group/version."
KIND_DOC = "Kind of this object."

READY_COLUMNS: list[dict[str, str]] = [
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Status", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].message'},
]
AGE_COLUMN = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def generate(kind: KindInfo[Any]) -> dict[str, Any]:
    """The CustomResourceDefinition of `kind` as data."""
    names = {
        "categories": list(kind.categories),
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "shortNames": list(kind.short_names),
        "singular": kind.singular,
    }
    schema = _object_schema(kind)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": kind.crd_name,
            "annotations": {SUBSTITUTE: "disabled"},
            "labels": {
                "app.kubernetes.io/component": kind.component,
                "app.kubernetes.io/managed-by": "headrace",
                "app.kubernetes.io/part-of": "flux",
            },
        },
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced",
            "conversion": {"strategy": "None"},
            "versions": [_version(kind, version, schema) for version in kind.versions],
        },
    }


def _object_schema(kind: KindInfo[Any]) -> Schema:
    schema = struct_schema(kind.type)
    schema["properties"] = {
        "apiVersion": {"description": API_VERSION_DOC, "type": "string"},
        "kind": {"description": KIND_DOC, "type": "string"},
    } | schema["properties"]
    del schema["required"]  # an object without a spec is admitted and answered with a condition, as upstream
    return schema


def _version(kind: KindInfo[Any], version: str, schema: Schema) -> dict[str, Any]:
    storage = version == kind.storage_version
    entry: dict[str, Any] = {
        "name": version,
        "served": True,
        "storage": storage,
        "additionalPrinterColumns": _columns(kind, version),
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    if not storage:
        entry["deprecated"] = True
        entry["deprecationWarning"] = f"{version} {kind.kind} is deprecated, upgrade to {kind.storage_version}"
    return entry


def _columns(kind: KindInfo[Any], version: str) -> list[dict[str, str]]:
    """Upstream's columns: the kind's own, Age, Ready, Status, the last ones; an old v1beta1 had Age at the end."""
    own, last = (
        [{"name": name, "type": "string", "jsonPath": path} for name, path in columns]
        for columns in (kind.columns, kind.last_columns)
    )
    if kind.age_last or version == "v1beta1" != kind.storage_version:
        return [*own, *READY_COLUMNS, AGE_COLUMN]
    return [*own, AGE_COLUMN, *READY_COLUMNS, *last]


class _Dumper(yaml.SafeDumper):
    """Writes every occurrence in full: API servers' clients and people alike should not have to follow anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(kind: KindInfo[Any]) -> str:
    """The CustomResourceDefinition of `kind` as it stands in its file."""
    header = "# Generated from src/headrace/api by `make generate`. Do not edit.\n"
    body: str = yaml.dump(generate(kind), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return header + body


def files() -> dict[str, str]:
    """File name -> content, for every kind."""
    return {f"{kind.group}_{kind.plural}.yaml": to_yaml(kind) for kind in KINDS.values()}


def stale(directory: Path) -> list[str]:
    """Names of files in `directory` that are missing, differ, or belong to no kind."""
    wanted = files()
    found = {path.name: path.read_text() for path in directory.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: list[str]) -> int:
    """`DIRECTORY` writes the files, `--check DIRECTORY` names the stale ones and returns 1 if there are any."""
    directory = Path(arguments[-1])
    if "--check" in arguments:
        names = stale(directory)
        for name in names:
            print(f"{directory / name} is stale: run `make generate`", file=sys.stderr)
        return 1 if names else 0
    directory.mkdir(parents=True, exist_ok=True)
    for name in stale(directory):
        (directory / name).unlink(missing_ok=True)
    for name, content in files().items():
        (directory / name).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
