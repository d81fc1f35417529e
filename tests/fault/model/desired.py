"""What Git has said: the revisions of one repository that three Kustomizations deliver, as plain data.

Nothing here knows a cluster. An object is wanted by one Kustomization at most. A revision that is broken for a
Kustomization still says what is wanted there; it just cannot be delivered, so nothing may be deleted because of it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Json = dict[str, Any]

OWNERS = ("a", "b", "c")
HOME, SECOND = "model", "second"
"""The namespace of the Kustomizations, and another one to deliver to."""
COLOR = "blue"
"""What `${color}` stands for; manifests in Git name the variable."""
GROUP = "model.test"
VALUE = f"{GROUP}/value"
DEFINITION = f"widgets.{GROUP}"


class Key(NamedTuple):
    """One object; `namespace` is empty for kinds that have none."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


API_VERSIONS = {
    "ConfigMap": "v1", "Secret": "v1", "ServiceAccount": "v1", "Namespace": "v1", "Deployment": "apps/v1",
    "Widget": f"{GROUP}/v1", "CustomResourceDefinition": "apiextensions.k8s.io/v1",
}  # fmt: skip
NAMESPACED = ("ConfigMap", "Secret", "ServiceAccount", "Deployment", "Widget")
CRD = Key("CustomResourceDefinition", "", DEFINITION)


@dataclass(frozen=True, slots=True)
class Item:
    """An object as Git wants it: all that ever differs between two versions of it is `value`, and whether it says
    `more`, a second field that may come and go."""

    key: Key
    value: str
    more: str = ""

    @property
    def id(self) -> str:
        """As an inventory writes it."""
        group = API_VERSIONS[self.key.kind].rpartition("/")[0]
        return inventory_id(self.key, group)


def inventory_id(key: Key, group: str | None = None) -> str:
    """The inventory's name of an object."""
    group = API_VERSIONS[key.kind].rpartition("/")[0] if group is None else group
    return f"{key.namespace}_{key.name}_{group}_{key.kind}"


@dataclass(frozen=True, slots=True)
class Breakage:
    """Why a Kustomization cannot be delivered: one file of it. `item` is the wanted object whose file it is, if any."""

    what: str
    file: str
    content: str
    item: Key | None = None


Wanted = Mapping[Key, Item]


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit. `name` is empty until it is made, `at` is the monotonic time just before it could be seen."""

    index: int
    wanted: Mapping[str, Wanted]
    broken: Mapping[str, Breakage]
    did: tuple[str, ...]
    name: str = ""
    at: float = 0.0

    def wants(self, key: Key) -> bool:
        """Whether anybody wants the object."""
        return any(key in wanted for wanted in self.wanted.values())

    def owner(self, key: Key) -> str:
        """Who wants the object; empty when nobody does."""
        return next((owner for owner, wanted in self.wanted.items() if key in wanted), "")

    def files(self) -> dict[str, str]:
        """The whole tree of the commit."""
        found: dict[str, str] = {}
        for owner, wanted in self.wanted.items():
            found |= {f"{owner}/{file_name(item.key)}": in_git(item) for item in wanted.values()}
        for owner, breakage in self.broken.items():
            found[f"{owner}/{breakage.file}"] = breakage.content
        return found


@dataclass
class Repository:
    """All revisions so far, the first one first."""

    revisions: list[Revision] = field(default_factory=list)

    @property
    def head(self) -> Revision:
        return self.revisions[-1]

    def index(self, name: str) -> int:
        """The index of a revision; -1 for none."""
        return next((revision.index for revision in reversed(self.revisions) if revision.name == name), -1)

    def between(self, first: int, until: float) -> list[Revision]:
        """The revisions from the index on that could have been seen at the time."""
        return [revision for revision in self.revisions[max(first, 0):] if revision.at <= until]


# -- manifests ---------------------------------------------------------------------------------------------------------


def file_name(key: Key) -> str:
    return "-".join(part.lower() for part in key if part) + ".yaml"


def in_git(item: Item) -> str:
    """The file of an object: JSON is YAML. Secrets are base64 and hold no variable."""
    import json

    return json.dumps(manifest(item), indent=1).replace(COLOR, "${color}") + "\n"


def manifest(item: Item) -> Json:
    """The object as it should be on the cluster."""
    key = item.key
    metadata: Json = {"name": key.name} | ({"namespace": key.namespace} if key.namespace else {})
    body: Json = {"apiVersion": API_VERSIONS[key.kind], "kind": key.kind, "metadata": metadata}
    values = {"value": item.value} | ({"more": item.more} if item.more else {})
    match key.kind:
        case "ConfigMap":
            return body | {"data": values}
        case "Secret":
            return body | {"data": {name: base64.b64encode(text.encode()).decode() for name, text in values.items()}}
        case "Widget":
            return body | {"spec": values}
        case "Deployment":
            return body | {"spec": _deployment(key.name, values)}
        case "CustomResourceDefinition":
            metadata["annotations"] = _annotations(values)
            return body | {"spec": _definition()}
    metadata["annotations"] = _annotations(values)
    return body


def _annotations(values: Mapping[str, str]) -> Json:
    return {f"{GROUP}/{name}": text for name, text in values.items()}


def _deployment(name: str, values: Mapping[str, str]) -> Json:
    environment = [{"name": key, "value": text} for key, text in values.items()]
    pod = {"containers": [{"name": "main", "image": "example.com/app:1", "env": environment}]}
    labels = {"app": name}
    return {
        "replicas": 1, "revisionHistoryLimit": 0, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }  # fmt: skip


def _definition() -> Json:
    text = {"type": "string"}
    spec = {"type": "object", "properties": {"value": text, "more": text, "foreign": text}}
    version = {
        "name": "v1", "served": True, "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }  # fmt: skip
    names = {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"}
    return {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]}


def values(kind: str, live: Json) -> dict[str, str]:
    """What an object on the cluster says, without what somebody else has added under the name `foreign`."""
    match kind:
        case "ConfigMap":
            found = dict(live.get("data") or {})
        case "Secret":
            found = {name: base64.b64decode(text).decode() for name, text in (live.get("data") or {}).items()}
        case "Widget":
            found = dict(live.get("spec") or {})
        case "Deployment":
            containers = live["spec"]["template"]["spec"]["containers"]
            found = {each["name"]: each.get("value", "") for each in containers[0].get("env", [])}
            found["replicas"] = str(live["spec"].get("replicas"))
        case _:
            annotations = live["metadata"].get("annotations") or {}
            prefix = f"{GROUP}/"
            found = {name.removeprefix(prefix): text for name, text in annotations.items() if name.startswith(prefix)}
    return {name: text for name, text in found.items() if name != "foreign"}


def difference(item: Item, live: Json) -> str:
    """How an object on the cluster differs from what Git wants; empty when it does not."""
    wanted, found = values(item.key.kind, manifest(item)), values(item.key.kind, live)
    return "" if wanted == found else f"{item.key} holds {found}, wanted is {wanted}"
