"""The client against a real API server: what verbs, preconditions, dry-runs and identities mean there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.kube.client import JSON_PATCH, STRATEGIC_MERGE_PATCH, Client
from headrace.kube.config import ClientConfig, Credentials, load_kubeconfig
from headrace.kube.counter import RequestKey
from headrace.kube.discovery import Discovery
from headrace.kube.errors import (
    AlreadyExists,
    ConfigError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Unauthorized,
    Unreachable,
)
from headrace.kube.resource import Resource
from tests.servers.control_plane import ControlPlane

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)
SERVICE_ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True)
REVIEWS = Resource("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False)


def config_map(name: str, namespace: str, **more: Any) -> bytes:
    metadata = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
    return msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **more})


async def test_an_object_is_created_read_and_found_again(client: Client, namespace: str) -> None:
    made = await client.create(CONFIG_MAPS, namespace, config_map("a", namespace, data={"x": "1"}))
    read = await client.get(CONFIG_MAPS, namespace, "a")
    assert read.metadata.uid == made.metadata.uid
    assert read.content()["data"] == {"x": "1"}
    with pytest.raises(AlreadyExists):
        await client.create(CONFIG_MAPS, namespace, config_map("a", namespace))
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, namespace, "b")


async def test_metadata_alone_can_be_read(client: Client, namespace: str) -> None:
    await client.create(CONFIG_MAPS, namespace, config_map("a", namespace, data={"x": "secret"}))
    live = await client.get(CONFIG_MAPS, namespace, "a", metadata_only=True)
    assert live.partial
    assert live.reference.kind == "ConfigMap"
    assert b"secret" not in live.raw


async def test_apply_tells_created_from_configured_and_unchanged(client: Client, namespace: str) -> None:
    async def apply(value: str, *, dry_run: bool = False) -> tuple[bool, str]:
        body = config_map("a", namespace, data={"x": value})
        applied = await client.apply(CONFIG_MAPS, namespace, "a", body, field_manager="test", dry_run=dry_run)
        return applied.created, applied.live.metadata.resource_version

    assert (await apply("1", dry_run=True))[0]
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, namespace, "a")
    created, version = await apply("1")
    assert created
    assert await apply("1") == (False, version)
    assert await apply("2", dry_run=True) == (False, version)
    created, changed = await apply("2")
    assert not created
    assert changed != version


async def test_apply_takes_fields_over_only_by_force(client: Client, namespace: str) -> None:
    body = config_map("a", namespace, data={"x": "1"})
    await client.apply(CONFIG_MAPS, namespace, "a", body, field_manager="one")
    other = config_map("a", namespace, data={"x": "2"})
    with pytest.raises(Conflict):
        await client.apply(CONFIG_MAPS, namespace, "a", other, field_manager="two", force=False)
    await client.apply(CONFIG_MAPS, namespace, "a", other, field_manager="two")
    live = await client.get(CONFIG_MAPS, namespace, "a")
    assert live.content()["data"] == {"x": "2"}


async def test_every_kind_of_patch_does_what_it_says(client: Client, namespace: str) -> None:
    await client.create(CONFIG_MAPS, namespace, config_map("a", namespace, data={"x": "1"}))
    merged = await client.patch(CONFIG_MAPS, namespace, "a", b'{"data":{"y":"2"}}', field_manager="m")
    assert merged.content()["data"] == {"x": "1", "y": "2"}
    operations = b'[{"op":"remove","path":"/data/x"}]'
    patched = await client.patch(CONFIG_MAPS, namespace, "a", operations, content_type=JSON_PATCH)
    assert patched.content()["data"] == {"y": "2"}
    strategic = await client.patch(
        CONFIG_MAPS, namespace, "a", b'{"data":{"$patch":"replace","z":"3"}}', content_type=STRATEGIC_MERGE_PATCH
    )
    assert strategic.content()["data"] == {"z": "3"}


async def test_a_patch_with_an_old_version_conflicts(client: Client, namespace: str) -> None:
    made = await client.create(CONFIG_MAPS, namespace, config_map("a", namespace))
    await client.patch(CONFIG_MAPS, namespace, "a", b'{"data":{"x":"1"}}')
    body = {"metadata": {"resourceVersion": made.metadata.resource_version}, "data": {"x": "2"}}
    with pytest.raises(Conflict):
        await client.patch(CONFIG_MAPS, namespace, "a", msgspec.json.encode(body))


async def test_the_status_is_patched_apart(client: Client, namespace: str) -> None:
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        },
    }
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    await client.create(DEPLOYMENTS, namespace, msgspec.json.encode(body))
    patch = b'{"status":{"collisionCount":7},"spec":{"replicas":9}}'
    live = await client.patch(DEPLOYMENTS, namespace, "d", patch, subresource="status")
    assert live.content()["status"]["collisionCount"] == 7
    assert live.content()["spec"]["replicas"] == 0


async def test_a_delete_meets_only_the_object_that_was_read(client: Client, namespace: str) -> None:
    made = await client.create(CONFIG_MAPS, namespace, config_map("a", namespace))
    uid, version = made.metadata.uid, made.metadata.resource_version
    await client.patch(CONFIG_MAPS, namespace, "a", b'{"data":{"x":"1"}}')
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAPS, namespace, "a", uid=uid, resource_version=version)
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAPS, namespace, "a", uid="00000000-0000-0000-0000-000000000000")
    live = await client.get(CONFIG_MAPS, namespace, "a")
    gone = await client.delete(CONFIG_MAPS, namespace, "a", uid=uid, resource_version=live.metadata.resource_version)
    assert gone is None
    with pytest.raises(NotFound):
        await client.delete(CONFIG_MAPS, namespace, "a", uid=uid)


async def test_an_object_with_finalizers_stays_and_is_shown(client: Client, namespace: str) -> None:
    body = config_map("a", namespace, metadata={"finalizers": ["example.com/hold"]})
    made = await client.create(CONFIG_MAPS, namespace, body)
    live = await client.delete(CONFIG_MAPS, namespace, "a", uid=made.metadata.uid)
    assert live is not None
    assert live.metadata.deleting
    await client.patch(CONFIG_MAPS, namespace, "a", b'{"metadata":{"finalizers":null}}')
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, namespace, "a")


async def test_a_dry_run_changes_nothing(client: Client, namespace: str) -> None:
    made = await client.create(CONFIG_MAPS, namespace, config_map("a", namespace))
    await client.patch(CONFIG_MAPS, namespace, "a", b'{"data":{"x":"1"}}', dry_run=True)
    await client.delete(CONFIG_MAPS, namespace, "a", dry_run=True)
    live = await client.get(CONFIG_MAPS, namespace, "a")
    assert live.metadata.resource_version == made.metadata.resource_version


async def test_what_validation_refuses_names_the_field(client: Client, namespace: str) -> None:
    body = msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "A_B"}})
    with pytest.raises(Invalid) as caught:
        await client.create(CONFIG_MAPS, namespace, body)
    assert caught.value.details is not None
    assert [cause.field for cause in caught.value.details.causes or []] == ["metadata.name"]


async def test_a_list_is_read_in_pages(client: Client, namespace: str) -> None:
    for i in range(7):
        labels = {"metadata": {"labels": {"even": str(i % 2 == 0)}}}
        await client.create(CONFIG_MAPS, namespace, config_map(f"m{i}", namespace, **labels))
    before = client.counter.snapshot()
    listing = await client.list(CONFIG_MAPS, namespace, label_selector="even", limit=3, metadata_only=True)
    assert [live.metadata.name for live in listing.items] == [f"m{i}" for i in range(7)]
    key = RequestKey("list", "configmaps")
    assert client.counter.snapshot()[key] - before.get(key, 0) == 3
    listing = await client.list(CONFIG_MAPS, namespace, label_selector="even=True")
    assert len(listing.items) == 4
    listing = await client.list(CONFIG_MAPS, namespace, field_selector="metadata.name=m3")
    assert [live.metadata.name for live in listing.items] == ["m3"]


async def who_am_i(client: Client) -> dict[str, Any]:
    body = b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
    raw = await client.request("POST", REVIEWS.collection(), body=body)
    info: dict[str, Any] = msgspec.json.decode(raw)["status"]["userInfo"]
    return info


@pytest.mark.spec("SEC-23")
async def test_an_impersonated_service_account_is_who_the_server_sees(client: Client, namespace: str) -> None:
    account = client.impersonate_service_account(namespace, "deployer")
    info = await who_am_i(account)
    assert info["username"] == f"system:serviceaccount:{namespace}:deployer"
    assert "system:masters" not in info["groups"]
    with pytest.raises(Forbidden):
        await account.list(CONFIG_MAPS, namespace)
    assert "system:masters" in (await who_am_i(client))["groups"]


@pytest.mark.spec("SEC-23")
@pytest.mark.parametrize("name", ["", " ", "a:b", "system:masters", "a/b", "A", "a\nImpersonate-Group: system:masters"])
async def test_what_is_no_service_account_is_never_sent(client: Client, name: str) -> None:
    before = client.counter.total()
    with pytest.raises(ConfigError):
        client.impersonate_service_account("default", name)
    for user in ("", "   ", "a\r\nb"):
        with pytest.raises(ConfigError):
            client.impersonate(user)
    assert client.counter.total() == before


async def token_of(client: Client, namespace: str, name: str) -> str:
    body = msgspec.json.encode({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    await client.create(SERVICE_ACCOUNTS, namespace, body)
    request = b'{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600}}'
    raw = await client.request("POST", SERVICE_ACCOUNTS.object(namespace, name, "token"), body=request)
    token: str = msgspec.json.decode(raw)["status"]["token"]
    return token


def with_credentials(config: ClientConfig, **credentials: str) -> ClientConfig:
    return msgspec.structs.replace(config, credentials=Credentials(**credentials))  # type: ignore[arg-type]


@pytest.mark.spec("REL-21")
async def test_a_rotated_token_is_picked_up_without_a_restart(
    client: Client, cluster: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("not.a.token")
    async with Client(with_credentials(cluster.config, token_file=str(file))) as rotated:
        with pytest.raises(Unauthorized):
            await who_am_i(rotated)
        file.write_text(await token_of(client, namespace, "robot"))
        info = await who_am_i(rotated)
    assert info["username"] == f"system:serviceaccount:{namespace}:robot"


@pytest.mark.spec("REL-21")
async def test_a_rotated_ca_is_picked_up_without_a_restart(cluster: ControlPlane, tmp_path: Path) -> None:
    from tests.servers.certificates import Authority

    file = tmp_path / "ca.crt"
    file.write_bytes(Authority("another").certificate)
    config = msgspec.structs.replace(cluster.config, ca=b"", ca_file=str(file))
    async with Client(config) as client:
        with pytest.raises(Unreachable, match="certificate"):
            await who_am_i(client)
        file.write_bytes(cluster.config.ca)
        assert (await who_am_i(client))["username"]


async def test_a_tenants_kubeconfig_reaches_the_cluster(client: Client, cluster: ControlPlane, namespace: str) -> None:
    """A document as a kubeconfig Secret holds it, with a token and inline CA."""
    import base64

    document = {
        "current-context": "c",
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": cluster.config.server,
                    "certificate-authority-data": base64.b64encode(cluster.config.ca).decode(),
                },
            }
        ],
        "users": [{"name": "u", "user": {"token": await token_of(client, namespace, "robot")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    config = load_kubeconfig(msgspec.json.encode(document), trusted=False)
    async with Client(config) as remote:
        assert (await who_am_i(remote))["username"] == f"system:serviceaccount:{namespace}:robot"


async def test_a_name_that_is_none_reaches_no_other_path(client: Client, namespace: str) -> None:
    before = client.counter.total()
    for name in ("", "..", "../../secrets"):
        with pytest.raises(ConfigError):
            await client.delete(CONFIG_MAPS, namespace, name)
    assert client.counter.total() == before


async def test_requests_are_counted_by_what_they_do(client: Client, namespace: str) -> None:
    before = client.counter.snapshot()
    body = config_map("a", namespace, data={})
    await client.apply(CONFIG_MAPS, namespace, "a", body, field_manager="test", dry_run=True)
    await client.apply(CONFIG_MAPS, namespace, "a", body, field_manager="test")
    await client.get(CONFIG_MAPS, namespace, "a", purpose="lease")
    await Discovery(client).resource("", "ConfigMap")
    after = client.counter.snapshot()
    grown = {key: n - before.get(key, 0) for key, n in after.items() if n != before.get(key, 0)}
    assert grown == {
        RequestKey("patch", "configmaps", dry_run=True): 1,
        RequestKey("patch", "configmaps"): 1,
        RequestKey("get", "configmaps", purpose="lease"): 1,
        RequestKey("get", purpose="discovery"): 2,
    }
