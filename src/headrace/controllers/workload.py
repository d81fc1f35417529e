"""Which ServiceAccount an object may authenticate as elsewhere: the gate ObjectLevelWorkloadIdentity (SRC-COM-32)."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.controllers.source_secrets import FETCH_FAILED
from headrace.identity import ServiceAccount
from headrace.model.errors import Stalled

FEATURE_GATE_DISABLED = "FeatureGateDisabled"
GATE = "ObjectLevelWorkloadIdentity"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPolicy:
    """What operators decide. `default_account` serves objects that name none, where the gate is open."""

    object_level: bool = False
    default_account: str = ""

    def account(self, namespace: str, name: str, provider: str) -> ServiceAccount | None:
        """The account for an object, None for the engine's own identity. Raises Stalled(FeatureGateDisabled)."""
        if name and not self.object_level:
            text = (
                f"to use spec.serviceAccountName in the '{provider}' authentication provider please enable the "
                f"{GATE} feature gate in the controller"
            )
            raise Stalled(FEATURE_GATE_DISABLED, text, condition=FETCH_FAILED)
        chosen = name or (self.default_account if self.object_level else "")
        return ServiceAccount(namespace, chosen) if chosen else None
