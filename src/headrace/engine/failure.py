"""From any exception to a StepError: nothing that a reconcile raises is left without a handling."""

from __future__ import annotations

import asyncio

from headrace.kube.errors import ApiError, Forbidden, KubeError, NoMatch, Unreachable
from headrace.model.cures import access_reference, cluster_reference, kind_reference
from headrace.model.errors import Retry, StepError, Superseded
from headrace.model.reference import MANAGEMENT_CLUSTER

FAILED = "ReconciliationFailed"
INTERNAL = "InternalError"
TIMED_OUT = "Timeout"


def step_error(error: KubeError, cluster: str = MANAGEMENT_CLUSTER) -> Retry:
    """What a call to a cluster failed with, as the Retry that the event which cures it ends early."""
    if isinstance(error, NoMatch):
        return Retry(FAILED, str(error), cures=(kind_reference(error.group, error.kind, cluster),))
    if isinstance(error, Unreachable):
        return Retry(FAILED, str(error), cures=(cluster_reference(cluster),))
    if isinstance(error, Forbidden):
        return Retry(FAILED, str(error), cures=(access_reference("", cluster),))
    after = error.retry_after if isinstance(error, ApiError) else None
    return Retry(FAILED, str(error) or type(error).__name__, after=after)


def internal_error(error: BaseException) -> Retry:
    """A bug, as far as anybody knows: the stack is for the log, the name of the error for the object."""
    return Retry(INTERNAL, f"unexpected {type(error).__name__}: {error}")


def leading(error: BaseException) -> BaseException:
    """The one error that counts in the group that a TaskGroup raises: what ended the run, before what followed."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [leading(inner) for inner in error.exceptions]
    for wanted in (asyncio.CancelledError, Superseded, StepError, KubeError):
        for leaf in leaves:
            if isinstance(leaf, wanted):
                return leaf
    return leaves[0]
