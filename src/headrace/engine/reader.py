"""What the engine asks of clusters, as narrow protocols; `access` is the one adapter to `kube`."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, Protocol

from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

Listener = Callable[[Reference, LiveObject | None, LiveObject | None], None]
"""Called with (reference, old, new) for each change that a watch shows; None for what does not exist."""

ServedListener = Callable[[str, str, str], None]
"""Called with (cluster, group, kind) when a kind that was looked for in vain is served."""


Account = tuple[str, str]
"""Namespace and name of a service account to act as."""


class Unwatched(enum.Enum):
    """The answer for an object that no watch covers."""

    UNWATCHED = "unwatched"


UNWATCHED: Literal[Unwatched.UNWATCHED] = Unwatched.UNWATCHED


class Reader(Protocol):
    """Reads of any cluster with the engine's own identity."""

    def get(self, reference: Reference, *, full: bool = False) -> LiveObject | Unwatched | None:
        """The object as the watches show it now: None when it does not exist. Perhaps only its metadata.

        With `full` only watches of whole objects are asked: UNWATCHED when there is none.
        """
        ...

    async def ensure(self, reference: Reference, *, version: str = "", full: bool = False) -> None:
        """Watch the kind of `reference` where it is, and return when the first list is complete.

        `full` asks for whole objects where the kind is otherwise watched as metadata only. Raises NoMatch,
        Forbidden and every other KubeError that stands in the way.
        """
        ...

    async def hold(self, reference: Reference, holder: Hashable) -> None:
        """Watch the kind of `reference`, its metadata only, until `holder` releases it. Raises as `ensure`."""
        ...

    def release(self, holder: Hashable) -> None:
        """`holder` needs none of its watches any more."""
        ...

    async def fetch(
        self, reference: Reference, *, version: str = "", account: Account | None = None
    ) -> LiveObject | None:
        """The whole object by one GET; None when it does not exist. With `account` as that, and Forbidden is raised
        where it may not."""
        ...

    def subscribe(self, listener: Listener) -> None:
        """Tell of every change on every cluster, present and future."""
        ...

    async def served(self, reference: Reference) -> bool:
        """Whether the kind of `reference` is served; looks again where it was not."""
        ...

    async def alive(self, cluster: str) -> bool:
        """Whether the API server of a cluster answers."""
        ...


class FinalizerWriter(Protocol):
    """The one write that the engine makes besides the status."""

    async def finalizers(self, live: LiveObject, finalizers: Sequence[str]) -> LiveObject | None:
        """Replace the finalizers with the resourceVersion of `live` as precondition.

        Returns the object as it is now, None when that was its end. Raises Conflict, NotFound.
        """
        ...
