"""What the kinds share: references, conditions, and the names of labels, annotations and finalizers.

Field docstrings are the descriptions of the generated CRDs.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from headrace.api.validation import LegacyNamespace, Time, Validation
from headrace.model.artifact import Artifact
from headrace.model.outcome import Condition

SOURCE_GROUP = "source.toolkit.fluxcd.io"
KUSTOMIZE_GROUP = "kustomize.toolkit.fluxcd.io"
EXTENSIONS_GROUP = "source.extensions.fluxcd.io"

FINALIZER = "finalizers.fluxcd.io"
RECONCILE_REQUEST = "reconcile.fluxcd.io/requestedAt"
"""Annotation: a new value asks for a run at once; copied to `status.lastHandledReconcileAt`."""
FORCE_REQUEST = "reconcile.fluxcd.io/forceAt"
RESET_REQUEST = "reconcile.fluxcd.io/resetAt"
WATCH_LABEL = "reconcile.fluxcd.io/watch"
SHARD_LABEL = "sharding.fluxcd.io/key"
EVENT_ANNOTATION_PREFIX = "event.toolkit.fluxcd.io/"
COMMIT_STATUS, UPDATE = "commit_status", "update"
"""The annotation of events, below a kind's group, that notification-controller makes the status of a commit from."""
ORIGIN_REVISION = "org.opencontainers.image.revision"
"""Key in `status.artifact.metadata`: the revision in the system that the artifact was built from."""

COHERENCE = "headrace.dev/coherence"
"""Annotation: `true` makes dependencies count only when they have handled the same or a newer revision."""
PRUNE_BUDGET = "headrace.dev/prune-budget"
"""Annotation: how many objects a run may delete before a person has approved it."""
APPROVE = "headrace.dev/approve"
"""Annotation: the held deletions that a person approves, by their digest or by the revision."""

SHARED_WITH = "headrace.dev/shared-with"
"""Annotation: namespaces, comma separated, that may refer to the object under strict tenancy; `*` for all."""
ADOPT = "headrace.dev/adopt"
"""Annotation of a manifest: `true` takes an object over that somebody else holds, if that consents."""
ADOPTABLE_BY = "headrace.dev/adoptable-by"
"""Annotation of a live object: `namespace/name` of the owner that may take it over; `namespace/*` for any there."""
ALLOW_DATA_LOSS = "headrace.dev/allow-data-loss"
"""Annotation of a delivered object: `true` lets `force` recreate it though data goes with it."""

GENERIC = "generic"
"""`spec.provider` where nobody issues credentials: those that are stated count. The same as none."""

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"

UNOBSERVED = -1
"""`status.observedGeneration` of an object that nobody has reconciled yet."""


class ApiStruct(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """Base of everything in a custom resource: snake_case here, camelCase on the wire, unknown fields ignored."""


class LocalObjectReference(ApiStruct, frozen=True, gc=False):
    """Names an object in the namespace of the one that refers to it."""

    name: str
    """Name of the object."""


class SecretReference(ApiStruct, frozen=True, gc=False):
    """Names a Secret in the namespace of the object that refers to it."""

    name: str
    """Name of the Secret."""

    namespace: LegacyNamespace = None
    """Legacy. Honoured only when it is the namespace of the referring object."""


class StatusCondition(Condition, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True):
    """One aspect of the state of an object, as metav1.Condition."""

    type: Annotated[str, Validation(
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
                r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        max_length=316)]
    """What the condition is about, such as Ready."""

    status: Annotated[str, Validation(enum=("True", "False", "Unknown"))]
    """True, False or Unknown."""

    reason: Annotated[str, Validation(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", min_length=1,
                                      max_length=1024)]
    """Why the condition has this status, in one CamelCase word."""

    message: Annotated[str, Validation(max_length=32768)]
    """What a person should know about it."""

    last_transition_time: Time
    """When the status last changed."""

    observed_generation: Annotated[int, Validation(minimum=0)] = 0
    """The metadata.generation that the condition was made from."""


class SourceArtifact(Artifact, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True):
    """The packed content of a source at one revision."""

    path: str
    """Path of the file relative to the root of the artifact storage."""

    url: str
    """HTTP address under which the artifact is served."""

    revision: str
    """Where the content comes from, readable: a branch with a commit, a tag, a chart version."""

    digest: Annotated[str, Validation(pattern=r"^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$")]
    """Digest of the served file as `algorithm:hex`."""

    last_update_time: Time
    """When this artifact was made."""

    size: int | None = None
    """Bytes of the served file."""

    metadata: dict[str, str] | None = None
    """Annotations that came with the content, such as those of an OCI manifest."""

    checksum: str = ""
    """Legacy. Digest in bare hex, as the beta versions had it."""
