"""Which ServiceAccount an object may authenticate as elsewhere: the gate ObjectLevelWorkloadIdentity (SRC-COM-32)."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.controllers.sources.secrets import FETCH_FAILED
from headrace.identity import ServiceAccount
from headrace.model.errors import Stalled

FEATURE_GATE_DISABLED = "FeatureGateDisabled"
ACCESS_DENIED = "AccessDenied"
GATE = "ObjectLevelWorkloadIdentity"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPolicy:
    """What operators decide. `default_account` serves objects that name none, where the gate is open. Without
    `own_identity` nobody may use the engine's, nor that of the machine it runs on (strict tenancy)."""

    object_level: bool = False
    default_account: str = ""
    own_identity: bool = True

    def account(self, namespace: str, name: str, provider: str) -> ServiceAccount | None:
        """The account for an object, None for the engine's own identity. Raises Stalled(FeatureGateDisabled,
        AccessDenied)."""
        if name and not self.object_level:
            text = (
                f"to use spec.serviceAccountName in the '{provider}' authentication provider please enable the "
                f"{GATE} feature gate in the controller"
            )
            raise Stalled(FEATURE_GATE_DISABLED, text, condition=FETCH_FAILED)
        chosen = name or (self.default_account if self.object_level else "")
        if chosen:
            return ServiceAccount(namespace, chosen)
        self.check_own_identity(provider)
        return None

    def check_own_identity(self, provider: str) -> None:
        """Raises Stalled(AccessDenied) where the engine's own identity, or its machine's, is not for objects."""
        if not self.own_identity:
            text = (
                f"the engine's own identity at '{provider}' is not for objects under strict tenancy: name a "
                f"serviceAccountName, with the feature gate {GATE}"
            )
            raise Stalled(ACCESS_DENIED, text, condition=FETCH_FAILED)
