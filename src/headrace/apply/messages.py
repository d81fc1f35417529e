"""What is said of an object that could not be delivered, in upstream's words with the file it came from. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headrace.kube.errors import ApiError, KubeError, NoMatch, NotFound, Unreachable
from headrace.model.errors import Retry
from headrace.model.manifests import Manifest
from headrace.model.plan import ChangeSet
from headrace.model.reference import Reference

RECONCILIATION_FAILED = "ReconciliationFailed"
"""Reason of everything that goes wrong between client and cluster while applying (spec 3.2, steps 12 and 15)."""

NO_NAMESPACE = "the server could not find the requested resource"


class ObjectFailure(msgspec.Struct, frozen=True, gc=False):
    """One object that failed: what to say, and the references whose change may cure it."""

    reference: Reference
    message: str
    cures: tuple[Reference, ...] = ()


def dry_run_failure(manifest: Manifest, error: KubeError) -> ObjectFailure:
    """A refused dry-run (KS-APPLY-06, 21)."""
    if isinstance(error, NotFound):
        text = f"{manifest.reference} not found: {error}"
    else:
        reason = f" ({error.reason})" if isinstance(error, ApiError) and error.reason else ""
        text = f"{manifest.reference} dry-run failed{reason}: {error}"
    return _failure(manifest, text, error)


def namespace_missing(manifest: Manifest) -> ObjectFailure:
    """A namespaced object that names no namespace; the cluster is not even asked (KS-APPLY-21)."""
    return _failure(manifest, f"{manifest.reference} namespace not specified: {NO_NAMESPACE}", None)


def apply_failure(manifest: Manifest, error: KubeError) -> ObjectFailure:
    """An apply that failed though its dry-run did not."""
    return _failure(manifest, f"{manifest.reference} apply failed: {error}", error)


def _failure(manifest: Manifest, text: str, error: KubeError | None) -> ObjectFailure:
    where = f" (from {manifest.file})" if manifest.file else ""
    return ObjectFailure(manifest.reference, text + where, cures(manifest.reference, error))


def cures(reference: Reference, error: KubeError | None) -> tuple[Reference, ...]:
    """References whose next event is worth another try, as the engine knows them: the kind that is not served, the
    cluster that does not answer, the namespace that is missing."""
    if isinstance(error, NoMatch):
        return (Reference(error.group, error.kind, "", "", reference.cluster),)
    if isinstance(error, Unreachable):
        return (Reference("headrace.dev", "Cluster", "", reference.cluster or "management", reference.cluster),)
    if isinstance(error, NotFound) and reference.namespace:
        return (Reference("", "Namespace", "", reference.namespace, reference.cluster),)
    return ()


def stage_failed(failures: Iterable[ObjectFailure], done: ChangeSet) -> Retry:
    """The error of a stage; `done` are the changes made before, which upstream lists too (KS-APPLY-23)."""
    failures = tuple(failures)
    lines = [failure.message for failure in failures] + [str(change) for change in done.effective]
    return Retry(
        RECONCILIATION_FAILED,
        "\n".join(lines),
        objects=[failure.reference for failure in failures],
        cures=dict.fromkeys(cure for failure in failures for cure in failure.cures),
    )
