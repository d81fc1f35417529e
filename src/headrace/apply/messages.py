"""What is said of an object that could not be delivered, in upstream's words with the file it came from."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from headrace.core import secrecy
from headrace.kube.errors import ApiError, Forbidden, KubeError, NoMatch, NotFound, Unreachable
from headrace.model.cures import (
    access_reference,
    admission_reference,
    cluster_reference,
    kind_reference,
    settled_reference,
)
from headrace.model.errors import Retry
from headrace.model.manifests import Manifest
from headrace.model.plan import ChangeSet
from headrace.model.reference import Reference

RECONCILIATION_FAILED = "ReconciliationFailed"
"""Reason of everything that goes wrong between client and cluster while applying (spec 3.2, steps 12 and 15)."""

_SECRET = ("", "Secret")
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


def refusal(manifest: Manifest, reason: str) -> ObjectFailure:
    """An object that strict tenancy does not apply; the reason is the end of a sentence about it."""
    return _failure(manifest, f"{manifest.reference} {reason}", None)


def apply_failure(manifest: Manifest, error: KubeError) -> ObjectFailure:
    """An apply that failed though its dry-run did not."""
    return _failure(manifest, f"{manifest.reference} apply failed: {error}", error)


def _failure(manifest: Manifest, text: str, error: KubeError | None) -> ObjectFailure:
    if manifest.reference.group_kind == _SECRET:
        for value in _values(msgspec.json.decode(manifest.body)):
            secrecy.register(value)
    where = f" (from {manifest.file})" if manifest.file else ""
    return ObjectFailure(manifest.reference, text + where, cures(manifest.reference, error))


def _values(secret: dict[str, Any]) -> Iterator[str]:
    """The values of a Secret, however ill-formed it is: API servers quote what they refuse (SEC-35)."""
    pending: list[Any] = [secret.get("stringData"), secret.get("data")]
    while pending:
        match pending.pop():
            case dict() as inner:
                pending += inner.values()
            case list() as inner:
                pending += inner
            case str() | int() | float() as value:
                yield str(value)
                with contextlib.suppress(binascii.Error, UnicodeError):
                    yield base64.b64decode(str(value), validate=True).decode()


def cures(reference: Reference, error: KubeError | None) -> tuple[Reference, ...]:
    """References whose next event is worth another try, as the engine knows them: the kind that is not served, the
    cluster that does not answer, the namespace that is missing, the rights, the webhook."""
    cluster, namespace = reference.cluster, reference.namespace
    match error:
        case NoMatch():
            return (kind_reference(error.group, error.kind, cluster),)
        case Unreachable():
            return (cluster_reference(cluster),)
        case NotFound() if error.details is None or not error.details.kind:
            return (settled_reference(reference.group, reference.kind, cluster),)
        case NotFound() if namespace:
            return (Reference("", "Namespace", "", namespace, cluster),)
        case ApiError() if _ADMISSION.search(error.message):
            return (admission_reference(*_service(error.message), cluster),)
        case Forbidden():
            return (access_reference(namespace, cluster),)
        case _:
            return ()


_ADMISSION = re.compile(r"failed calling webhook|admission webhook \S+ denied|ValidatingAdmissionPolicy '")
"""Messages of an API server that a webhook, or a policy, has kept from doing what was asked."""

_SERVICE = re.compile(r"https://([a-z0-9-]+)\.([a-z0-9-]+)\.svc[:/]")
"""The Service that a webhook's message names."""


def _service(message: str) -> tuple[str, str]:
    """Namespace and name of the Service that a webhook is called at; empty where the message names none."""
    found = _SERVICE.search(message)
    return (found.group(2), found.group(1)) if found else ("", "")


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
