"""The parts that talk to OCI registries, made from the settings."""

from __future__ import annotations

from pathlib import Path

from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.controllers.consumers import Consumers
from headrace.controllers.oci.access import OciAccess
from headrace.controllers.oci.ocirepository import OCIRepositoryController
from headrace.controllers.oci.verification import OciVerification
from headrace.controllers.sources.registries import RegistryIdentities
from headrace.controllers.workload import WorkloadPolicy
from headrace.core.clock import Clock
from headrace.core.egress import Egress
from headrace.settings import Settings, SettingsError
from headrace.source.oci.registry import Registry
from headrace.source.oci.remotes import OciRemotes
from headrace.source.oci.versions import toolbox_tags
from headrace.source.polls import Changed
from headrace.toolbox import Toolbox


def registries_of(
    settings: Settings, egress: Egress, toolbox: Toolbox, store: Store, clock: Clock, changed: Changed
) -> OciRemotes:
    """All registries, polled for all kinds."""
    registry = Registry(egress, clock, trusted_token_hosts=frozenset(settings.tenancy.registry_token_hosts))
    return OciRemotes(
        registry, key=store.installation_key(), clock=clock, match_tags=toolbox_tags(toolbox), changed=changed
    )


def oci_controller(
    settings: Settings, registries: OciRemotes, identities: RegistryIdentities, policy: WorkloadPolicy, *,
    toolbox: Toolbox, store: Store, trees: Trees, clock: Clock, consumers: Consumers,
) -> OCIRepositoryController:  # fmt: skip
    """That of OCIRepository. Raises SettingsError."""
    access = OciAccess(registries, identities, policy, allow_insecure=not settings.enforces("registries"))
    verification = verification_of(settings, registries, toolbox)
    return OCIRepositoryController(
        registries, access, verification, store, trees, clock, consumers=consumers
    )


def verification_of(settings: Settings, registries: OciRemotes, toolbox: Toolbox) -> OciVerification:
    """That of all kinds, with the operator's trusted root. Raises SettingsError."""
    return OciVerification(registries.registry, toolbox, trusted_root=trusted_root(settings))


def trusted_root(settings: Settings) -> str:
    """The operator's trusted_root.json, empty without one. Raises SettingsError when it cannot be read."""
    path = settings.tenancy.sigstore_trusted_root
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"sigstore-trusted-root: '{path}' cannot be read: {error}") from None
