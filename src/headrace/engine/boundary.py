"""The boundary of a namespace under strict tenancy: the one place where references to other namespaces are refused.

Every object of every kind passes here before its reconcile. Which fields are references is read from the types of the
specification, so no controller has to remember it (SEC-24). A target of one of our kinds may name its consumers; the
operator may ask for signatures by namespace, whatever a specification says.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.api.meta import SHARED_WITH, SOURCE_GROUP
from headrace.api.references import CrossReference, cross_references
from headrace.engine.reader import Account
from headrace.engine.settings import EngineSettings
from headrace.kube.errors import KubeError
from headrace.model.errors import Stalled
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope

ACCESS_DENIED = "AccessDenied"

SHARED = Part("shared-with", lambda live: live.metadata.annotation(SHARED_WITH), metadata_only=True)
"""Who may refer to an object from other namespaces, as it says itself."""

EVERYONE = "*"


async def admit(obj: Any, reference: Reference, settings: EngineSettings, scope: Scope) -> None:
    """Returns when `obj` may be reconciled. Raises Stalled(AccessDenied) for a reference to another namespace whose
    target does not name this one, and for a source without signatures where they are required.

    The words are the same whether the target exists or not.
    """
    if reference.namespace in settings.verified_namespaces or EVERYONE in settings.verified_namespaces:
        _require_verification(obj, reference)
    if not settings.isolated:
        return
    for cross in cross_references(obj, reference.kind):
        if not await _shared(cross, reference.namespace, scope):
            text = f"can't access '{cross}', cross-namespace references have been blocked"
            raise Stalled(ACCESS_DENIED, f"{text} ({cross.field})")


async def _shared(cross: CrossReference, consumer: str, scope: Scope) -> bool:
    """Whether the target itself names the consumer. The read is a subscription: consent that is given later wakes."""
    target = cross.target
    if target is None:
        return False
    try:
        live = await scope.read(target, SHARED)
    except KubeError:
        return False
    return live is not None and consents(live, consumer)


def consents(live: LiveObject, consumer: str) -> bool:
    """Whether an object names a namespace, or everyone, as its consumer."""
    named = {each.strip() for each in live.metadata.annotation(SHARED_WITH).split(",")}
    return consumer in named or EVERYONE in named


def _require_verification(obj: Any, reference: Reference) -> None:
    if reference.group == SOURCE_GROUP and getattr(obj.spec, "verify", None) is None:
        text = f"sources of namespace {reference.namespace} must be verified: spec.verify is required by the operator"
        raise Stalled(ACCESS_DENIED, text)


# -- Secrets and ConfigMaps ------------------------------------------------------------------------------------------

TENANTS_DATA = frozenset({("", "Secret"), ("", "ConfigMap")})
"""Kinds whose content is read as the tenant."""


class _Spec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    service_account_name: str = ""


class _Object(msgspec.Struct, frozen=True, gc=False):
    spec: _Spec = _Spec()


def reads_as(reader: LiveObject, target: Reference, part: Part, settings: EngineSettings) -> Account | None:
    """As whom a part of what `reader` names is read: for the data of its Secrets and ConfigMaps the account of its
    specification, else the tenants' default one; None for the engine itself, as Flux reads everything.

    Raises Stalled(AccessDenied) for data of another namespace, by whatever way a controller came to it. What settings
    of the operator name lies in the engine's own namespace, and is read as the engine.
    """
    if target.group_kind not in TENANTS_DATA:
        return None
    home = reader.reference.namespace
    if settings.isolated and target.namespace not in (home, settings.runtime_namespace):
        text = f"can't access '{target.kind}/{target.namespace}/{target.name}'"
        raise Stalled(ACCESS_DENIED, f"{text}, cross-namespace references have been blocked")
    if part.metadata_only or not settings.tenant_account or target.namespace != home:
        return None
    named = msgspec.json.decode(reader.raw, type=_Object).spec.service_account_name
    return home, named or settings.tenant_account
