"""The border between git and the way to a server: what a transport must be able to do.

HTTP is one (`http`), SSH the other (`ssh`): both list refs themselves and tell the git program how to connect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from headrace.source.git.refs import RefTarget


@dataclass(frozen=True, slots=True)
class GitAccess:
    """How the git program reaches the server: the URL for its arguments, configuration and environment for secrets."""

    url: str
    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Transport(Protocol):
    """A way to one repository with one identity."""

    async def refs(self, prefixes: Sequence[str], timeout: float) -> Mapping[str, RefTarget]:
        """The refs that begin with one of the prefixes, all when there are none. Raises GitError."""
        ...

    def access(self, timeout: float) -> AbstractAsyncContextManager[GitAccess]:
        """What the git program needs, for as long as the context is open. Raises GitError."""
        ...
