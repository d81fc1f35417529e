"""Kustomize: a directory of a Tree and the build fields of a Kustomization become Manifests (spec section 2).

The work is the toolbox's; here the question is put and the answer, or the error, is given its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from headrace.api.kustomization import Kustomization
from headrace.core.duration import format_duration, parse_duration
from headrace.model.artifact import Tree
from headrace.model.errors import Retry
from headrace.model.manifests import Manifests
from headrace.model.reference import MANAGEMENT_CLUSTER
from headrace.toolbox import (
    BuildDecryption,
    BuildKeys,
    BuildRequest,
    BuildSpec,
    Built,
    Substitute,
    ToolboxError,
    WantedIdentity,
)

ARTIFACT_FAILED = "ArtifactFailed"
BUILD_FAILED = "BuildFailed"

USUAL_BUILD, LONGEST_BUILD = 60.0, 300.0
"""Seconds. Kustomize takes time with the square of the number of objects: 20 s for 4 000 of them, two minutes for
10 000. Who has so many says so by spec.timeout, within limits: nobody else can use the child meanwhile."""


class Builder(Protocol):
    """What is needed of the toolbox."""

    async def build(
        self, request: BuildRequest, *, keys: BuildKeys | None = None, timeout: float | None = None
    ) -> Built:
        """Objects of a folder. Raises ToolboxError."""
        ...


class DecryptionKeys(msgspec.Struct, frozen=True, gc=False):
    """What a decryption Secret holds, whose namespaced name is `secret`, and logins for Vault; `version` identifies
    their state."""

    secret: str = ""
    values: BuildKeys = BuildKeys()
    version: str = ""

    def __repr__(self) -> str:
        return f"DecryptionKeys({self.secret!r})"


class IdentityWanted(Retry):
    """A build that failed because a key service of a cloud knows nobody of those whom the keys stand for."""

    def __init__(self, reason: str, message: str, wanted: tuple[WantedIdentity, ...]) -> None:
        super().__init__(reason, message)
        self.wanted = wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """What does not come from the object: owner labels, the cluster of the references, and operators' decisions."""

    labels: Mapping[str, str]
    cluster: str = MANAGEMENT_CLUSTER
    strict: bool = True
    """A variable that is neither set nor defaulted is an error (gate StrictPostBuildSubstitutions, on upstream)."""
    scalars: bool = False
    """Values of variables that change more than a scalar are an error (strict tenancy)."""
    allow_remote: bool = False
    keys: DecryptionKeys | None = None
    """With keys, even with none in them, encrypted files and resources are decrypted."""


def build_request(tree: Tree, ks: Kustomization, variables: Mapping[str, str], options: RenderOptions) -> BuildRequest:
    """The toolbox's question. Legacy fields go along: they mean what they meant (design: the union of versions)."""
    post_build = ks.spec.post_build
    substitute = None
    if post_build is not None:
        always = post_build.substitute_strategy == "Always"
        substitute = Substitute(variables=variables, always=always, strict=options.strict, scalars=options.scalars)
    return BuildRequest(
        root=str(tree.directory),
        path=ks.spec.path,
        spec=msgspec.json.decode(msgspec.json.encode(ks.spec), type=BuildSpec),
        substitute=substitute,
        labels=options.labels,
        allow_remote=options.allow_remote,
        decryption=None if options.keys is None else BuildDecryption(secret=options.keys.secret),
    )


async def render(
    toolbox: Builder, tree: Tree, ks: Kustomization, variables: Mapping[str, str], options: RenderOptions
) -> Manifests:
    """The objects to deliver, with owner labels set.

    Raises Retry(ArtifactFailed) when the path is not in the tree, Retry(BuildFailed) for everything else that is
    wrong with it, IdentityWanted where identities at key services may help. The message names the file and the object
    where they are known.
    """
    try:
        keys = options.keys.values if options.keys is not None else None
        request = build_request(tree, ks, variables, options)
        built = await toolbox.build(request, keys=keys, timeout=build_timeout(ks))
    except ToolboxError as error:
        raise build_failure(error) from error
    return built.manifests(options.cluster)


def build_timeout(ks: Kustomization) -> float | None:
    """How long a build may take; None for as long as usual."""
    stated = parse_duration(ks.spec.timeout) if ks.spec.timeout else 0.0
    return min(stated, LONGEST_BUILD) if stated > USUAL_BUILD else None


def build_failure(error: ToolboxError) -> Retry:
    """The StepError for a build that failed."""
    reason = ARTIFACT_FAILED if error.code == "PathNotFound" else BUILD_FAILED
    where = [part for part in (error.object, error.file) if part and part not in error.message]
    message = error.message + (f" (from {', '.join(where)})" if where else "")
    if error.code == "Timeout":
        longest = format_duration(LONGEST_BUILD)
        message += f": deliver by several Kustomizations, or set a longer spec.timeout, up to {longest}"
    return IdentityWanted(reason, message, error.identities) if error.identities else Retry(reason, message)
