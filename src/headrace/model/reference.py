"""Names of the things that can be read: Kubernetes objects on any cluster, and remotes outside of them."""

from __future__ import annotations

import msgspec

MANAGEMENT_CLUSTER = ""
"""The cluster that holds headrace's own custom resources."""

REMOTE = "remote"
"""The cluster part of a Reference to something that is no Kubernetes object (a git remote's ref, a bucket)."""


class Reference(msgspec.Struct, frozen=True, gc=False, order=True):
    """One readable thing: an object by group, kind, namespace and name on a cluster.

    The version is left out on purpose: the same object served in two versions is one thing.
    """

    group: str
    kind: str
    namespace: str
    name: str
    cluster: str = MANAGEMENT_CLUSTER

    @property
    def group_kind(self) -> tuple[str, str]:
        return self.group, self.kind

    def on(self, cluster: str) -> Reference:
        """The same object on another cluster."""
        return Reference(self.group, self.kind, self.namespace, self.name, cluster)

    def __str__(self) -> str:
        """`Kind/namespace/name`, as Flux prints objects in messages."""
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)


def split_api_version(api_version: str) -> tuple[str, str]:
    """`apps/v1` -> (`apps`, `v1`); `v1` -> (``, `v1`)."""
    group, _, version = api_version.rpartition("/")
    return group, version
