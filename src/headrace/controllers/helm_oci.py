"""Charts of registries: the version is a tag, the chart a layer. An exact version is known without asking anybody
(SRC-HCH-11, SRC-HCH-12)."""

from __future__ import annotations

from typing import BinaryIO

from headrace.api.helmchart import HelmChart
from headrace.api.helmrepository import HelmRepository
from headrace.controllers.helm_access import basic_of
from headrace.controllers.helm_candidates import Candidate
from headrace.controllers.oci_access import GENERIC, RegistryIdentities
from headrace.controllers.source_polls import max_age
from headrace.controllers.source_secrets import (
    AUTHENTICATION_FAILED,
    FETCH_FAILED,
    keys_part,
    not_configured,
    read_trust,
    secret_data,
)
from headrace.core import secrecy
from headrace.core.clock import Clock
from headrace.core.duration import parse_duration
from headrace.core.egress import NO_TRUST
from headrace.core.limits import HELM, HelmLimits
from headrace.identity import IdentityError
from headrace.model.errors import Retry, Stalled
from headrace.model.outcome import Condition
from headrace.model.scope import Scope
from headrace.source.helm import semver
from headrace.source.helm.errors import ChartError, Reason
from headrace.source.oci.credentials import CONFIG_KEYS, Access, Credential, Keychain, keychain_for, keychain_of
from headrace.source.oci.errors import Denied, OciError
from headrace.source.oci.manifest import HELM_CHART, Descriptor, Manifest
from headrace.source.oci.reference import ReferenceRefused, Repository, parse_url
from headrace.source.oci.remotes import OciRemotes, Source, Wanted

CREDENTIALS = keys_part("helm-registry-credentials", ("username", "password", *CONFIG_KEYS))
_NOT_FOUND = "failed to get chart version for remote reference"
_NOT_PULLED = "failed to download chart for remote reference"


class RegistryCharts:
    """Charts of HelmRepositories of type oci. `identities` are asked where the object brings no credentials."""

    def __init__(
        self, remotes: OciRemotes, identities: RegistryIdentities, clock: Clock, *, allow_insecure: bool = True,
        limits: HelmLimits = HELM,
    ) -> None:  # fmt: skip
        self._remotes = remotes
        self._identities = identities
        self._clock = clock
        self._allow_insecure = allow_insecure
        self._limits = limits

    async def find(self, repo: HelmRepository, chart: str, version: str, scope: Scope) -> Candidate:
        """See `helm_remote.OciCandidates`. Raises Stalled(URLInvalid), Retry(AuthenticationFailed) besides."""
        source = await self._open(repo, chart, scope)
        timeout = parse_duration(repo.spec.timeout_or_default)
        tag = version.replace("+", "_") if semver.is_exact(version) else ""
        if not tag:
            tag = await self._highest(source, repo, version, scope)
        return Candidate(
            name=chart,
            version=tag.replace("_", "+"),
            key=lambda scope: self._key(source, tag, timeout, scope),
            fetch=lambda file, scope: self._fetch(source, tag, file, timeout, scope),
        )

    async def verify(self, chart: HelmChart, repo: HelmRepository, found: Candidate, scope: Scope) -> Condition:
        """See `helm_remote.OciCandidates`."""
        provider = chart.spec.verify.provider if chart.spec.verify is not None else ""
        raise ChartError(Reason.VERIFICATION, f"verification by provider '{provider}' is not supported yet")

    # -- asking --------------------------------------------------------------------------------------------------

    async def _highest(self, source: Source, repo: HelmRepository, version: str, scope: Scope) -> str:
        """The tag of the best version in a range. Subscribes to it."""
        wanted = Wanted(semver=version or "*", is_chart=True)
        timeout = parse_duration(repo.spec.timeout_or_default)
        interval = parse_duration(repo.spec.interval_or_default)
        age = max_age(scope.live.metadata, interval, scope.causes, self._clock)

        async def ask() -> str:
            answer = await self._remotes.found(source, wanted, max_age=age, timeout=timeout)
            scope.record(answer.read)
            return answer.value.tag

        try:
            return await scope.wait(ask(), note="tags of the registry")
        except OciError as error:
            raise _failed(_NOT_FOUND, error) from error

    async def _key(self, source: Source, tag: str, timeout: float, scope: Scope) -> str:
        """By digest: tags move."""
        resolving = self._remotes.registry.resolve(source.repository, tag, source.access, timeout=timeout)
        try:
            found = await scope.wait(resolving, note="digest from the registry")
        except OciError as error:
            raise _failed(_NOT_PULLED, error) from error
        return f"helm oci {source.key} {found.digest}"

    async def _fetch(self, source: Source, tag: str, file: BinaryIO, timeout: float, scope: Scope) -> None:
        registry = self._remotes.registry

        async def pull() -> None:
            manifest = await registry.image(source.repository, tag, source.access, timeout=timeout)
            layer = _chart_layer(manifest)
            limit = self._limits.chart_bytes
            await registry.blob(source.repository, layer, file, source.access, timeout=timeout, limit=limit)

        try:
            await scope.wait(pull(), note="chart from the registry")
        except OciError as error:
            raise _failed(_NOT_PULLED, error) from error

    # -- access --------------------------------------------------------------------------------------------------

    async def _open(self, repo: HelmRepository, chart: str, scope: Scope) -> Source:
        spec, namespace = repo.spec, repo.metadata.namespace
        if not spec.url.startswith("oci://"):
            text = f"failed to construct Helm client: invalid OCI registry URL: {spec.url}"
            raise Stalled("Failed", text, condition=FETCH_FAILED)
        try:
            repository = parse_url(f"{spec.url.rstrip('/')}/{chart}")
        except ReferenceRefused as error:
            text = f"invalid Helm repository URL: {error}"
            raise Stalled("URLInvalid", text, condition=FETCH_FAILED) from error
        if spec.insecure and not self._allow_insecure:
            text = "spec.insecure is refused under strict tenancy"
            raise Stalled("InsecureRegistry", text, condition=FETCH_FAILED)
        keychain = await self._keychain(repo, repository, scope)
        trust = await read_trust(namespace, spec.cert_secret_ref, scope) or NO_TRUST
        access = Access(keychain=keychain, trust=trust, insecure=spec.insecure)
        for secret in access.credential(repository).secrets:
            secrecy.register(secret)
        return self._remotes.source(repository, access)

    async def _keychain(self, repo: HelmRepository, repository: Repository, scope: Scope) -> Keychain:
        """Those of the Secret, else of the identity in a cloud, else nobody's."""
        spec, namespace = repo.spec, repo.metadata.namespace
        if spec.secret_ref is None:
            return await self._identity(repo, repository, scope)
        data = await secret_data(namespace, spec.secret_ref.name, CREDENTIALS, scope)
        try:
            if any(key in data for key in CONFIG_KEYS):
                return keychain_of([data])
            username, password = basic_of(data)
        except ValueError as error:
            raise not_configured(f"secret '{namespace}/{spec.secret_ref.name}': {error}") from error
        return keychain_for(repository, Credential(username, password)) if username else Keychain()

    async def _identity(self, repo: HelmRepository, repository: Repository, scope: Scope) -> Keychain:
        provider = repo.spec.provider or GENERIC
        if provider == GENERIC:
            return Keychain()
        asking = self._identities.registry_credentials(provider, repository.host)
        try:
            username, password = await scope.wait(asking, note=f"credentials from {provider}")
        except IdentityError as error:
            text = f"failed to get credential from '{provider}': {error}"
            raise Retry(AUTHENTICATION_FAILED, text, condition=FETCH_FAILED) from error
        return keychain_for(repository, Credential(username, password))


def _chart_layer(manifest: Manifest) -> Descriptor:
    for layer in manifest.layers or ():
        if layer.media_type == HELM_CHART:
            return layer
    raise OciError(f"manifest does not contain a layer with mediatype {HELM_CHART}")


def _failed(what: str, error: OciError) -> ChartError:
    return ChartError(Reason.PULL, f"{what}: {error}", denied=isinstance(error, Denied))
