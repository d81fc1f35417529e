"""spec.decryption: the keys for SOPS, and what they have opened kept out of messages (spec section 1.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from headrace.api.kustomization import Decryption, KustomizationSpec
from headrace.controllers.kustomize.variables import BUILD_FAILED
from headrace.controllers.object_data import decoded, not_found, read_data
from headrace.core import secrecy
from headrace.core.documents import load_document
from headrace.identity import ServiceAccount
from headrace.kube.errors import KubeError
from headrace.kube.tokens import ServiceAccountTokens
from headrace.model.errors import Retry, Stalled
from headrace.model.manifests import Manifest
from headrace.model.scope import Scope
from headrace.render.kustomize import DecryptionKeys
from headrace.toolbox import BuildKeys, VaultLogin

FEATURE_GATE_DISABLED = "FeatureGateDisabled"
AGE_SUFFIX = ".agekey"
VAULT_ENTRY = "sops.vault-token"
VAULT_CONFIG = "config.yaml"
"""The entry of the ConfigMap that lists Vault servers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecryptionPolicy:
    """What operators decide: the Secret with the age keys that serve where an object names none (sops-age-secret), the
    ConfigMap of Vault servers at which accounts log in (sops-vault-configmap), both in `namespace`; whether objects may
    name an account (gate ObjectLevelWorkloadIdentity), and which one serves where they name none; whether the engine's
    own identity at clouds opens what objects hold (not under strict tenancy)."""

    age_secret: str = ""
    namespace: str = ""
    vault_configmap: str = ""
    workload_identity: bool = False
    default_service_account: str = ""
    own_identity: bool = True

    def account(self, decryption: Decryption, namespace: str) -> ServiceAccount | None:
        """The account that decrypts for an object; None for the engine itself."""
        name = decryption.service_account_name or self.default_service_account
        return ServiceAccount(namespace, name) if name and self.workload_identity else None


def check_decryption(spec: KustomizationSpec, policy: DecryptionPolicy) -> None:
    """Raises Stalled(FeatureGateDisabled) for an account where those are not served: nothing is tried without it."""
    if spec.decryption is not None and spec.decryption.service_account_name and not policy.workload_identity:
        raise Stalled(
            FEATURE_GATE_DISABLED,
            "to use spec.decryption.serviceAccountName for decryption authentication please enable the "
            "ObjectLevelWorkloadIdentity feature gate in the controller",
        )


class KeyReader:
    """Reads what decrypts. `tokens` issues those with which accounts log in at Vault; without, none does."""

    def __init__(self, policy: DecryptionPolicy, tokens: ServiceAccountTokens | None = None) -> None:
        self._policy = policy
        self._tokens = tokens

    async def read(self, decryption: Decryption | None, scope: Scope) -> DecryptionKeys | None:
        """The keys to decrypt with; None when nothing is to be decrypted. Each read is a subscription: a changed key
        wakes the object. The operator's age keys serve only objects that name no Secret (KS-SOPS-11).

        Raises Retry(BuildFailed) when the Secret does not exist (KS-SOPS-12), or an account cannot log in.
        """
        if decryption is None:
            return None
        keys = await self._secret(decryption, scope)
        logins, version = await self._logins(decryption, keys, scope)
        if not logins:
            return keys
        values = msgspec.structs.replace(keys.values, logins=logins)
        return msgspec.structs.replace(keys, values=values, version=f"{keys.version} {version}")

    async def _secret(self, decryption: Decryption, scope: Scope) -> DecryptionKeys:
        if decryption.secret_ref is not None:
            return await _read(scope.live.metadata.namespace, decryption.secret_ref.name, scope)
        if not self._policy.age_secret:
            return DecryptionKeys()
        keys = await _read(self._policy.namespace, self._policy.age_secret, scope)
        only = {name: value for name, value in keys.values.entries.items() if name.endswith(AGE_SUFFIX)}
        return msgspec.structs.replace(keys, values=BuildKeys(entries=only))

    async def _logins(
        self, decryption: Decryption, keys: DecryptionKeys, scope: Scope
    ) -> tuple[tuple[VaultLogin, ...], str]:
        """A login for each Vault server that the operator lists, as the object's account. A token in the Secret goes
        before; the engine's own token and environment are nobody's (KS-SOPS-14)."""
        policy = self._policy
        account = policy.account(decryption, scope.live.metadata.namespace)
        given = VAULT_ENTRY in keys.values.entries
        if given or account is None or not policy.vault_configmap or self._tokens is None:
            return (), ""
        data = await read_data("ConfigMap", policy.namespace, policy.vault_configmap, scope)
        if data is None:
            text = f"failed to get Vault ConfigMap '{policy.namespace}/{policy.vault_configmap}': "
            raise Retry(BUILD_FAILED, text + not_found("ConfigMap", policy.vault_configmap))
        instances = _instances(data.values.get(VAULT_CONFIG, b""))
        logins = [await self._login(instance, account, self._tokens) for instance in instances]
        return tuple(logins), f"{data.version} {account}"

    async def _login(self, instance: _Instance, account: ServiceAccount, tokens: ServiceAccountTokens) -> VaultLogin:
        try:
            issued = await tokens.issue(account.namespace, account.name, (instance.address,))
        except KubeError as error:
            text = f"failed to issue Kubernetes token for Vault authentication: {error}"
            raise Retry(BUILD_FAILED, text) from error
        secrecy.register(issued.token)
        return VaultLogin(
            address=instance.address, path=instance.login_path, role=f"{account.namespace}_{account.name}",
            jwt=issued.token)


class _Instance(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    address: str
    login_path: str


class _VaultConfig(msgspec.Struct, frozen=True, gc=False):
    instances: tuple[_Instance, ...] = ()


def _instances(text: bytes) -> tuple[_Instance, ...]:
    """The servers of a Vault ConfigMap. Raises Retry(BuildFailed) when it is not valid."""
    try:
        return msgspec.convert(load_document(text), _VaultConfig).instances
    except (ValueError, msgspec.ValidationError):
        raise Retry(BUILD_FAILED, f"failed to parse '{VAULT_CONFIG}' of the Vault ConfigMap") from None


async def _read(namespace: str, name: str, scope: Scope) -> DecryptionKeys:
    data = await read_data("Secret", namespace, name, scope)
    if data is None:
        text = f"cannot get sops decryption Secret '{namespace}/{name}': {not_found('Secret', name)}"
        raise Retry(BUILD_FAILED, text)
    return DecryptionKeys(f"{namespace}/{name}", BuildKeys(entries=data.values), data.version)


class _Values(msgspec.Struct, frozen=True, gc=False):
    data: dict[str, str] | None = None


def keep_secret(manifests: Iterable[Manifest]) -> None:
    """Have the values of these Secrets taken out of whatever the run says from here on: an API server that refuses
    one may quote it (KS-SOPS-13)."""
    for value in secret_values(manifests):
        secrecy.register(value)


def secret_values(manifests: Iterable[Manifest]) -> Iterator[str]:
    """The values of the Secrets among these, as they are and as they are written."""
    for manifest in manifests:
        if manifest.reference.group_kind != ("", "Secret"):
            continue
        try:
            values = msgspec.json.decode(manifest.body, type=_Values).data or {}
        except msgspec.MsgspecError:
            continue
        for value in values.values():
            yield value
            yield decoded(value).decode(errors="replace")
