"""Where a Kustomization delivers to and as whom; nothing here needs an answer of a cluster."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.api.kustomization import KubeConfigReference, KubeConfigSecretReference
from headrace.apply.target import Target
from headrace.controllers.kustomize.targets import TargetPolicy, Targets
from headrace.kube.cluster import Clusters
from headrace.kube.config import ClientConfig
from headrace.kube.objects import decode_object
from headrace.model.errors import Retry
from headrace.model.objects import LiveObject
from tests.manual_clock import ManualClock
from tests.servers.sources import RecordedScope

HERE = ClientConfig(server="http://127.0.0.1:1")


def stored(kind: str, api_version: str, name: str, **content: Any) -> LiveObject:
    metadata = {"name": name, "namespace": "tenant-a", "uid": "u1", "resourceVersion": "1"}
    return decode_object(
        msgspec.json.encode({"apiVersion": api_version, "kind": kind, "metadata": metadata} | content))


def kubeconfig(host: str) -> str:
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {"token": "t"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"https://{host}:6443"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    return base64.b64encode(msgspec.json.encode(config)).decode()


async def opened(
    account: str = "", *, keys: tuple[str, ...] = (), key: str = "", **policy: Any
) -> Target:
    """The target of a Kustomization; with `keys` it names a Secret that has a kubeconfig for a host of that name under
    each of them, of which `key` is asked for."""
    secret = stored("Secret", "v1", "remote", data={name: kubeconfig(name) for name in keys})
    scope = RecordedScope(stored("Kustomization", KUSTOMIZATION.api_version, "app"), objects={secret.reference: secret})
    reference = KubeConfigReference(secret_ref=KubeConfigSecretReference("remote", key=key)) if keys else None
    async with Clusters(HERE) as clusters:
        return await Targets(clusters, TargetPolicy(**policy), ManualClock()).open(reference, account, scope)


def user(target: Target) -> str:
    identity = target.client.config.impersonation
    return "" if identity is None else identity.user


@pytest.mark.spec("KS-IMP-01", "KS-IMP-02")
@pytest.mark.parametrize(("stated", "default", "account"), [
    ("", "", ""), ("deployer", "", "deployer"), ("", "fallback", "fallback"), ("deployer", "fallback", "deployer"),
])
async def test_the_stated_account_is_impersonated_else_the_default_one(stated: str, default: str, account: str) -> None:
    target = await opened(stated, default_service_account=default)
    assert user(target) == (f"system:serviceaccount:tenant-a:{account}" if account else "")


@pytest.mark.spec("KS-IMP-06")
async def test_on_a_remote_cluster_the_account_is_one_of_the_own_namespace_too() -> None:
    target = await opened("deployer", keys=("value",))
    assert (target.client.config.server, user(target)) == (
        "https://value:6443", "system:serviceaccount:tenant-a:deployer")


@pytest.mark.spec("KS-IMP-03")
@pytest.mark.parametrize(("keys", "key", "found"), [
    (("value", "value.yaml", "own"), "own", "own"),
    (("own", "value.yaml", "value"), "", "value"),
    (("own", "value.yaml"), "", "value.yaml"),
])
async def test_the_kubeconfig_is_under_the_stated_key_else_value_else_value_yaml(
    keys: tuple[str, ...], key: str, found: str
) -> None:
    assert (await opened(keys=keys, key=key)).client.config.server == f"https://{found}:6443"


@pytest.mark.spec("KS-IMP-03")
@pytest.mark.parametrize(("key", "named"), [("own", "own"), ("", "value")])
async def test_no_other_key_stands_in_for_the_stated_one(key: str, named: str) -> None:
    with pytest.raises(Retry, match=f"does not contain a '{named}' key") as refused:
        await opened(keys=("value.yaml",) if key else ("other",), key=key)
    assert refused.value.reason == "ReconciliationFailed"
