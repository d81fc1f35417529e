"""Charts of registries: the version is a tag, the chart a layer. An exact version is known without asking anybody
(SRC-HCH-11, SRC-HCH-12)."""

from __future__ import annotations

from typing import BinaryIO

from headrace.api.helmchart import HelmChart
from headrace.api.helmrepository import HelmRepository
from headrace.api.meta import GENERIC
from headrace.api.ocirepository import OCIRepository, OCIRepositorySpec, OCIRepositoryVerification, OIDCIdentityMatch
from headrace.controllers.helm.access import basic_of
from headrace.controllers.helm.candidates import Candidate
from headrace.controllers.oci.verification import VERIFIED, OciVerification
from headrace.controllers.sources.polls import max_age
from headrace.controllers.sources.registries import RegistryIdentities, identity_keychain
from headrace.controllers.sources.secrets import FETCH_FAILED, keys_part, not_configured, read_trust, secret_data
from headrace.controllers.workload import WorkloadPolicy
from headrace.core import secrecy
from headrace.core.clock import Clock
from headrace.core.duration import parse_duration
from headrace.core.egress import NO_TRUST
from headrace.core.limits import HELM, HelmLimits
from headrace.model.errors import Stalled, StepError
from headrace.model.outcome import Condition
from headrace.model.scope import Scope
from headrace.source.helm import semver
from headrace.source.helm.errors import ChartError, Reason
from headrace.source.oci.credentials import CONFIG_KEYS, Access, Credential, Keychain, keychain_for, keychain_of
from headrace.source.oci.errors import Denied, OciError
from headrace.source.oci.manifest import HELM_CHART, Descriptor, Manifest
from headrace.source.oci.reference import ReferenceRefused, Repository, parse_url
from headrace.source.oci.registry import Registry
from headrace.source.oci.remotes import Found, OciRemotes, Source, Wanted

CREDENTIALS = keys_part("helm-registry-credentials", ("username", "password", *CONFIG_KEYS))
_NOT_FOUND = "failed to get chart version for remote reference"
_NOT_PULLED = "failed to download chart for remote reference"


class _Tagged:
    """A tag of a registry, resolved once: what is verified is what is pulled (SEC-46)."""

    def __init__(self, registry: Registry, source: Source, tag: str, timeout: float) -> None:
        self.source = source
        self.tag = tag
        self._registry = registry
        self._timeout = timeout
        self._digest = ""

    async def digest(self, scope: Scope) -> str:
        """What the tag names now. Raises ChartError."""
        if not self._digest:
            source = self.source
            resolving = self._registry.resolve(source.repository, self.tag, source.access, timeout=self._timeout)
            try:
                self._digest = (await scope.wait(resolving, note="digest from the registry")).digest
            except OciError as error:
                raise _failed(_NOT_PULLED, error) from error
        return self._digest

    async def key(self, scope: Scope) -> str:
        return f"helm oci {self.source.key} {await self.digest(scope)}"

    async def fetch(self, file: BinaryIO, limit: int, scope: Scope) -> None:
        """Write the layer that is the chart. Raises ChartError, OSError."""
        digest = await self.digest(scope)
        source, registry = self.source, self._registry

        async def pull() -> None:
            manifest = await registry.image(source.repository, digest, source.access, timeout=self._timeout)
            layer = _chart_layer(manifest)
            await registry.blob(source.repository, layer, file, source.access, timeout=self._timeout, limit=limit)

        try:
            await scope.wait(pull(), note="chart from the registry")
        except OciError as error:
            raise _failed(_NOT_PULLED, error) from error


class RegistryCharts:
    """Charts of HelmRepositories of type oci. `identities` are asked where the object brings no credentials, if the
    `policy` lets objects use the engine's own."""

    def __init__(
        self, remotes: OciRemotes, identities: RegistryIdentities, verification: OciVerification, clock: Clock, *,
        policy: WorkloadPolicy, allow_insecure: bool = True, limits: HelmLimits = HELM,
    ) -> None:  # fmt: skip
        self._remotes = remotes
        self._verification = verification
        self._identities = identities
        self._policy = policy
        self._clock = clock
        self._allow_insecure = allow_insecure
        self._limits = limits

    async def find(self, repo: HelmRepository, chart: str, version: str, scope: Scope) -> Candidate:
        """See `helm_remote.OciCandidates`. Raises Stalled(URLInvalid), Retry(AuthenticationFailed) besides."""
        source = await self._open(repo, chart, scope)
        tag = version.replace("+", "_") if semver.is_exact(version) else ""
        if not tag:
            tag = await self._highest(source, repo, version, scope)
        tagged = _Tagged(self._remotes.registry, source, tag, parse_duration(repo.spec.timeout_or_default))

        async def verify(chart: HelmChart, scope: Scope) -> tuple[Condition, ...]:
            return await self._verify(chart, repo, tagged, scope)

        async def fetch(file: BinaryIO, scope: Scope) -> None:
            await tagged.fetch(file, self._limits.chart_bytes, scope)

        return Candidate(chart, tag.replace("_", "+"), tagged.key, fetch, verify)

    async def _verify(
        self, chart: HelmChart, repo: HelmRepository, tagged: _Tagged, scope: Scope
    ) -> tuple[Condition, ...]:
        """Check the signature of what will be pulled, by digest (SRC-HCH-20). Raises ChartError."""
        found = Found(tagged.tag, await tagged.digest(scope))
        try:
            proof = await self._verification.verify(_as_oci(chart, repo), tagged.source, found, scope)
        except StepError as error:
            if error.condition != VERIFIED:
                raise
            raise ChartError(Reason.VERIFICATION, error.message) from error
        if not proof.conditions:
            return ()
        version = tagged.tag.replace("_", "+")
        return (Condition(VERIFIED, "True", "Succeeded", f"verified signature of version {version}"),)

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
        self._policy.check_own_identity(provider)
        return await identity_keychain(self._identities, provider, repository, scope, shown=f"'{provider}'")


def _chart_layer(manifest: Manifest) -> Descriptor:
    for layer in manifest.layers or ():
        if layer.media_type == HELM_CHART:
            return layer
    raise OciError(f"manifest does not contain a layer with mediatype {HELM_CHART}")


def _failed(what: str, error: OciError) -> ChartError:
    return ChartError(Reason.PULL, f"{what}: {error}", denied=isinstance(error, Denied))


def _as_oci(chart: HelmChart, repo: HelmRepository) -> OCIRepository:
    """The chart in the words of an OCIRepository, for the verification that both kinds share."""
    verify = chart.spec.verify
    assert verify is not None
    identities = tuple(OIDCIdentityMatch(one.issuer, one.subject) for one in verify.match_oidc_identity)
    asked = OCIRepositoryVerification(
        provider=verify.provider, secret_ref=verify.secret_ref, match_oidc_identity=identities
    )
    spec = OCIRepositorySpec(
        url=repo.spec.url, interval=chart.spec.interval, timeout=repo.spec.timeout_or_default, verify=asked,
        insecure=repo.spec.insecure,
    )  # fmt: skip
    return OCIRepository(metadata=chart.metadata, spec=spec)
