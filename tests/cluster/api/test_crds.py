"""The generated CRDs on a real API server: what it admits, defaults, keeps between versions, and shows."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
import yaml

from headrace.api import crds
from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION, KindInfo
from headrace.api.kustomization import Kustomization
from headrace.kube.client import Client
from headrace.kube.errors import Invalid, NotFound
from headrace.kube.resource import Resource
from headrace.model.objects import LiveObject

CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
SOURCE = {"kind": "GitRepository", "name": "app"}
KUSTOMIZATION_SPEC: dict[str, Any] = {"sourceRef": SOURCE, "interval": "1m", "prune": True}
GIT_SPEC: dict[str, Any] = {"url": "https://git.example/app", "interval": "1m"}
names = (f"a{number}" for number in itertools.count())


def resource(kind: KindInfo[Any], version: str = "") -> Resource:
    return Resource(kind.group, version or kind.storage_version, kind.kind, kind.plural, namespaced=True)


@pytest.fixture
async def served(client: Client) -> Client:
    """A client of a cluster that serves all kinds."""
    served = [resource(kind, version) for kind in (GIT_REPOSITORY, KUSTOMIZATION) for version in kind.versions]
    if not await _is_served(client, served[-1]):
        for document in crds():
            crd = yaml.safe_load(document)
            await client.apply(CRDS, "", crd["metadata"]["name"], msgspec.json.encode(crd), field_manager="test")
    async with asyncio.timeout(30):
        for kind in served:
            while not await _is_served(client, kind):
                await asyncio.sleep(0.05)
    return client


async def _is_served(client: Client, kind: Resource) -> bool:
    try:
        await client.list(kind, "default")
    except NotFound:
        return False
    return True


async def create(
    client: Client, namespace: str, kind: KindInfo[Any], spec: dict[str, Any], version: str = ""
) -> LiveObject:
    target = resource(kind, version)
    body = {
        "apiVersion": target.api_version,
        "kind": kind.kind,
        "metadata": {"name": next(names), "namespace": namespace},
        "spec": spec,
    }
    return await client.create(target, namespace, msgspec.json.encode(body))


@pytest.mark.spec("KS-SPEC-02")
@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        pytest.param(KUSTOMIZATION, KUSTOMIZATION_SPEC, id="Kustomization"),
        pytest.param(GIT_REPOSITORY, GIT_SPEC, id="GitRepository"),
    ],
)
async def test_a_new_object_is_unobserved(served, namespace, kind, spec):
    made = await create(served, namespace, kind, spec)
    assert made.content()["status"] == {"observedGeneration": -1}


@pytest.mark.spec("KS-SPEC-01")
@pytest.mark.parametrize("field", ["interval", "prune", "sourceRef"])
async def test_required_fields_of_a_kustomization_are_demanded(served, namespace, field):
    spec = {name: value for name, value in KUSTOMIZATION_SPEC.items() if name != field}
    with pytest.raises(Invalid, match=field):
        await create(served, namespace, KUSTOMIZATION, spec)


@pytest.mark.spec("KS-SPEC-01")
@pytest.mark.parametrize("field", ["interval", "retryInterval", "timeout"])
@pytest.mark.parametrize("value", ["1", "1d", "-1m", "1m 2s", "soon", ""])
async def test_a_bad_duration_is_refused(served, namespace, field, value):
    with pytest.raises(Invalid, match=rf"spec\.{field}"):
        await create(served, namespace, KUSTOMIZATION, {**KUSTOMIZATION_SPEC, field: value})


@pytest.mark.spec("KS-SPEC-03")
@pytest.mark.parametrize(
    "reference",
    [
        pytest.param({}, id="neither"),
        pytest.param({"secretRef": {"name": "a"}, "configMapRef": {"name": "b"}}, id="both"),
    ],
)
async def test_a_kubeconfig_needs_exactly_one_reference(served, namespace, reference):
    with pytest.raises(Invalid, match="exactly one of"):
        await create(served, namespace, KUSTOMIZATION, {**KUSTOMIZATION_SPEC, "kubeConfig": reference})


@pytest.mark.spec("KS-SPEC-04")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sourceRef": {"kind": "HelmRepository", "name": "a"}}, id="kind of source"),
        pytest.param({"deletionPolicy": "Keep"}, id="deletion policy"),
        pytest.param({"decryption": {"provider": "vault"}}, id="decryption provider"),
    ],
)
async def test_an_unknown_word_is_refused(served, namespace, change):
    with pytest.raises(Invalid, match="Unsupported value"):
        await create(served, namespace, KUSTOMIZATION, KUSTOMIZATION_SPEC | change)


@pytest.mark.spec("SRC-COM-33")
async def test_an_interval_takes_hours_and_a_timeout_of_a_source_does_not(served, namespace):
    await create(served, namespace, GIT_REPOSITORY, {**GIT_SPEC, "interval": "1h30m", "timeout": "90m"})
    with pytest.raises(Invalid, match=r"spec\.timeout"):
        await create(served, namespace, GIT_REPOSITORY, {**GIT_SPEC, "timeout": "1h"})


@pytest.mark.spec("SRC-GIT-18")
@pytest.mark.parametrize("url", ["git@git.example:app.git", "git.example/app", "ext::sh -c id", "-oProxyCommand=x"])
async def test_a_url_without_an_allowed_scheme_is_refused(served, namespace, url):
    with pytest.raises(Invalid, match=r"spec\.url"):
        await create(served, namespace, GIT_REPOSITORY, {**GIT_SPEC, "url": url})


async def test_a_service_account_of_a_source_needs_a_provider_that_takes_one(served, namespace):
    await create(served, namespace, GIT_REPOSITORY, {**GIT_SPEC, "provider": "azure", "serviceAccountName": "a"})
    with pytest.raises(Invalid, match="serviceAccountName can only be set when provider is 'azure' or 'aws'"):
        await create(served, namespace, GIT_REPOSITORY, {**GIT_SPEC, "serviceAccountName": "a"})


async def test_defaults_are_filled_in(served, namespace):
    made = await create(served, namespace, GIT_REPOSITORY, {**GIT_SPEC, "verify": {"secretRef": {"name": "keys"}}})
    spec = made.content()["spec"]
    assert (spec["timeout"], spec["verify"]["mode"]) == ("60s", "HEAD")


@pytest.mark.parametrize("version", ["v1beta2", "v1beta1"])
async def test_legacy_fields_of_an_old_version_are_kept_in_the_stored_object(served, namespace, version):
    legacy = {
        "patchesStrategicMerge": [{"kind": "ConfigMap", "data": {"a": "b"}}],
        "patchesJson6902": [{"target": {"kind": "Service"}, "patch": [{"op": "add", "path": "/x", "value": [1]}]}],
        "validation": "client",
    }
    made = await create(served, namespace, KUSTOMIZATION, KUSTOMIZATION_SPEC | legacy, version)
    stored = await served.get(resource(KUSTOMIZATION), namespace, made.metadata.name)
    assert legacy.items() <= stored.content()["spec"].items()
    assert stored.decode(Kustomization).spec.patches_json6902[0].patch[0].path == "/x"


async def test_an_old_client_that_writes_back_what_it_read_loses_nothing(served, namespace):
    made = await create(served, namespace, KUSTOMIZATION, {**KUSTOMIZATION_SPEC, "deletionPolicy": "Orphan"})
    old = resource(KUSTOMIZATION, "v1beta1")
    read = (await served.get(old, namespace, made.metadata.name)).content()
    read["spec"]["interval"] = "2m"
    await served.replace(old, namespace, made.metadata.name, msgspec.json.encode(read))
    spec = (await served.get(resource(KUSTOMIZATION), namespace, made.metadata.name)).content()["spec"]
    assert (spec["interval"], spec["deletionPolicy"]) == ("2m", "Orphan")


async def test_a_namespace_left_empty_beside_a_secrets_name_is_admitted(served, namespace):
    spec = {**KUSTOMIZATION_SPEC, "kubeConfig": {"secretRef": {"name": "a", "namespace": None}}}
    made = await create(served, namespace, KUSTOMIZATION, spec, "v1beta2")
    assert made.decode(Kustomization).spec.kube_config.secret_ref.namespace is None


@pytest.mark.parametrize(
    ("kind", "version", "columns"),
    [
        pytest.param(GIT_REPOSITORY, "v1", ["Name", "URL", "Age", "Ready", "Status"], id="GitRepository"),
        pytest.param(KUSTOMIZATION, "v1", ["Name", "Age", "Ready", "Status"], id="Kustomization"),
        pytest.param(KUSTOMIZATION, "v1beta1", ["Name", "Ready", "Status", "Age"], id="Kustomization v1beta1"),
    ],
)
async def test_kubectl_shows_upstreams_columns(served, namespace, kind, version, columns):
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    answer = await served.exchange("GET", resource(kind, version).collection(namespace), accept=table)
    shown = msgspec.json.decode(answer.body)["columnDefinitions"]
    assert [column["name"] for column in shown] == columns


async def test_kinds_are_found_by_short_name_and_category(served):
    raw = await served.request("GET", "/apis/kustomize.toolkit.fluxcd.io/v1")
    (kind,) = (r for r in msgspec.json.decode(raw)["resources"] if r["name"] == "kustomizations")
    assert kind["shortNames"] == ["ks"]
    assert kind["categories"] == ["all", "fluxcd", "fluxcd-appliers"]
