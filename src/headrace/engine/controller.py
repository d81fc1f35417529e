"""What a kind supplies to be served by the engine; everything common to all kinds is in `runner`."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

from headrace.api.kinds import KindInfo
from headrace.model.outcome import Outcome
from headrace.model.read import Part
from headrace.model.scope import Scope

T_contra = TypeVar("T_contra", contravariant=True)


class Controller(Protocol[T_contra]):
    """The reconcile of one kind; `T_contra` is the Struct of `kind`.

    The functions without `async` are pure views of the object's spec.
    """

    @property
    def kind(self) -> KindInfo[Any]:
        """The kind that is served."""
        ...

    @property
    def finalizer(self) -> str:
        """The finalizer set before the first reconcile and removed after `finalize`; empty for none."""
        ...

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that `reconcile` records by name with `Scope.record`, so that the engine can evaluate them.

        Parts passed to `Scope.read` need not be listed. Any newer event of an object recorded under a part that is
        not known wakes the reader.
        """
        ...

    async def reconcile(self, obj: T_contra, scope: Scope) -> Outcome:
        """Bring the world to what `obj` says. Raises StepError, ApiError, or Superseded out of `scope.wait`."""
        ...

    async def finalize(self, obj: T_contra, scope: Scope) -> None:
        """Undo what `obj` made; the finalizer is removed when this returns, and kept when it raises."""
        ...

    def timeout(self, obj: T_contra) -> float:
        """Seconds after which a run is cancelled, waits included; the last resort behind the deadlines of steps."""
        ...

    def suspended(self, obj: T_contra) -> bool:
        """Whether nothing is to be done until a person says so."""
        ...

    def retry_interval(self, obj: T_contra) -> float | None:
        """Seconds until a failed run is repeated; None for exponential backoff."""
        ...


@runtime_checkable
class ServesStatic(Protocol[T_contra]):
    """A controller some of whose objects are only data for others: they get no finalizer and no status."""

    def is_static(self, obj: T_contra) -> bool:
        """Whether nothing is done for this object. What an earlier form of it left behind is cleared away once."""
        ...
