"""A Resource: one kind as a cluster serves it, and the paths under which its objects are found."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from headrace.kube.errors import ConfigError


class Resource(msgspec.Struct, frozen=True, gc=False):
    """One served (group, version, kind): what REST mapping gives."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_kind(self) -> tuple[str, str]:
        return self.group, self.kind

    @property
    def group_resource(self) -> str:
        """`deployments.apps`, as error messages and CRD names write it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def collection(self, namespace: str = "") -> str:
        """The path of all objects, of one namespace if given. A namespace of a cluster-scoped kind is
        ignored."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if self.namespaced and namespace:
            return f"{root}/namespaces/{path_segment(namespace, 'namespace')}/{self.plural}"
        return f"{root}/{self.plural}"

    def object(self, namespace: str, name: str, subresource: str = "") -> str:
        """The path of one object. Raises ConfigError when it would name anything else than one object: an
        empty name is the whole collection, `..` the level above."""
        if self.namespaced and not namespace:
            raise ConfigError(f"{self.kind}/{name}: the kind is namespaced, and no namespace is given")
        path = f"{self.collection(namespace)}/{path_segment(name, 'name')}"
        return f"{path}/{subresource}" if subresource else path


def path_segment(text: str, what: str) -> str:
    """`text` quoted for use in a path. The same names are refused as the API server refuses."""
    if not text or text in (".", "..") or "/" in text or "%" in text:
        raise ConfigError(f"invalid {what} '{text[:253]}'")
    return quote(text, safe=":@!$&'()*+,;=~")
