"""What is known of a chart before it is made, and after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from headrace.artifact.pack import Packed
from headrace.model.outcome import Condition
from headrace.model.scope import Scope


@dataclass(frozen=True, slots=True)
class Built:
    """A chart that is made, or known without being made: then there is no content."""

    name: str
    version: str
    packaged: bool
    values_files: tuple[str, ...] = ()
    packed: Packed | None = None
    dependencies: int = 0

    @property
    def summary(self) -> str:
        """What happened, for conditions and events."""
        return f"{'packaged' if self.packaged else 'pulled'} {self.described}"

    @property
    def described(self) -> str:
        text = f"'{self.name}' chart with version '{self.version}'"
        return text + (f" and merged values files [{' '.join(self.values_files)}]" if self.values_files else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """A chart whose name and version are known, and how it is made. `proof` says what was verified of it."""

    built: Built
    make: Callable[[Scope], Awaitable[Built]]
    proof: tuple[Condition, ...] = ()
