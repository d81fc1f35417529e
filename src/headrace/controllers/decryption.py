"""spec.decryption: the keys for SOPS, and what they have opened kept out of messages (spec section 1.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from headrace.api.kustomization import Decryption, KustomizationSpec
from headrace.controllers.object_data import decoded, not_found, read_data
from headrace.controllers.variables import BUILD_FAILED
from headrace.core import secrecy
from headrace.model.errors import Retry, Stalled
from headrace.model.manifests import Manifest
from headrace.model.scope import Scope
from headrace.render.kustomize import DecryptionKeys

FEATURE_GATE_DISABLED = "FeatureGateDisabled"
AGE_SUFFIX = ".agekey"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecryptionPolicy:
    """What operators decide: the Secret with the age keys that serve where an object names none (sops-age-secret)."""

    age_secret: str = ""
    namespace: str = ""


def check_decryption(spec: KustomizationSpec) -> None:
    """Raises Stalled(FeatureGateDisabled): identities of workloads are not served, so nothing is tried without."""
    if spec.decryption is not None and spec.decryption.service_account_name:
        raise Stalled(
            FEATURE_GATE_DISABLED,
            "to use spec.decryption.serviceAccountName for decryption authentication please enable the "
            "ObjectLevelWorkloadIdentity feature gate in the controller",
        )


async def read_keys(decryption: Decryption | None, policy: DecryptionPolicy, scope: Scope) -> DecryptionKeys | None:
    """The keys to decrypt with; None when nothing is to be decrypted. The read is a subscription: a changed key wakes
    the object. The operator's age keys serve only objects that name no Secret (KS-SOPS-11).

    Raises Retry(BuildFailed) when the Secret does not exist (KS-SOPS-12).
    """
    if decryption is None:
        return None
    if decryption.secret_ref is not None:
        return await _read(scope.live.metadata.namespace, decryption.secret_ref.name, scope)
    if not policy.age_secret:
        return DecryptionKeys()
    keys = await _read(policy.namespace, policy.age_secret, scope)
    only = {name: value for name, value in keys.values.items() if name.endswith(AGE_SUFFIX)}
    return msgspec.structs.replace(keys, values=only)


async def _read(namespace: str, name: str, scope: Scope) -> DecryptionKeys:
    data = await read_data("Secret", namespace, name, scope)
    if data is None:
        text = f"cannot get sops decryption Secret '{namespace}/{name}': {not_found('Secret', name)}"
        raise Retry(BUILD_FAILED, text)
    return DecryptionKeys(f"{namespace}/{name}", data.values, data.version)


class _Values(msgspec.Struct, frozen=True, gc=False):
    data: dict[str, str] | None = None


def keep_secret(manifests: Iterable[Manifest]) -> None:
    """Have the values of these Secrets taken out of whatever the run says from here on: an API server that refuses
    one may quote it (KS-SOPS-13)."""
    for manifest in manifests:
        if manifest.reference.group_kind != ("", "Secret"):
            continue
        try:
            values = msgspec.json.decode(manifest.body, type=_Values).data or {}
        except msgspec.MsgspecError:
            continue
        for value in values.values():
            secrecy.register(value)
            secrecy.register(decoded(value).decode(errors="replace"))
