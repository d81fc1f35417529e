"""`spec.verify`: no artifact is published before it is signed by somebody who is trusted (SRC-OCI-21..27)."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.api.ocirepository import OCIRepository
from headrace.model.artifact import Artifact
from headrace.model.errors import Stalled
from headrace.model.objects import LiveObject
from headrace.model.outcome import Condition
from headrace.model.read import Part
from headrace.model.scope import Scope
from headrace.source.oci.registry import Registry
from headrace.source.oci.remotes import Found, Source
from headrace.toolbox import Toolbox

VERIFIED = "SourceVerified"
VERIFICATION_ERROR = "VerificationError"


def _all_data(live: LiveObject) -> dict[str, str]:
    return dict(live.content().get("data") or {})


TRUST = Part("verification-trust", _all_data, secret=True)


@dataclass(frozen=True, slots=True)
class Proof:
    """What the status says of a verification."""

    conditions: tuple[Condition, ...] = ()
    remove: tuple[str, ...] = ()


def needs_verification(repo: OCIRepository, held: Artifact | None, revision: str) -> bool:
    """Whether the signatures must be looked at: the revision or the spec is another one than was verified, or the
    last verification failed (SRC-OCI-26)."""
    if repo.spec.verify is None:
        return False
    last = next((one for one in repo.status.conditions if one.type == VERIFIED), None)
    return (
        held is None
        or held.revision != revision
        or last is None
        or last.status != "True"
        or last.observed_generation != repo.metadata.generation
    )


class OciVerification:
    """Verifies artifacts of registries."""

    def __init__(self, registry: Registry, toolbox: Toolbox) -> None:
        self._registry = registry
        self._toolbox = toolbox

    async def verify(self, repo: OCIRepository, source: Source, found: Found, scope: Scope) -> Proof:
        """Raises Retry(VerificationError), Stalled(VerificationError)."""
        raise Stalled(VERIFICATION_ERROR, "spec.verify is not supported yet", condition=VERIFIED)
