"""Bucket at Google and Azure, against local servers that speak their REST protocols, and with identities of clouds."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace.controllers.workload import WorkloadPolicy
from headrace.model.errors import Retry, Stalled
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference
from tests.servers.buckets import Buckets, buckets
from tests.servers.clouds import Clouds, clouds
from tests.servers.object_stores import ObjectStore, object_store
from tests.servers.sources import RecordedScope
from tests.unit.identity.test_identities import ENTRA, OneAccount

FILES = {"a.yaml": b"a: 1", "dir/b c.yaml": b"b: 2", "dir/caf\u00e9+%.yaml": b"c: 3", "z": b""}


@pytest.fixture
async def store() -> AsyncIterator[ObjectStore]:
    async with object_store() as running:
        running.objects = dict(FILES) | {"dir/": b""}
        yield running


@pytest.fixture
async def cloud() -> AsyncIterator[Clouds]:
    async with clouds() as running:
        yield running


@pytest.fixture
async def google(store: ObjectStore, tmp_path: Path) -> AsyncIterator[Buckets]:
    async with buckets(
        tmp_path, provider="gcp", endpoint=store.host, bucketName="things", insecure=True, secretRef={"name": "key"}
    ) as made:
        yield made


@pytest.fixture
async def azure(store: ObjectStore, tmp_path: Path) -> AsyncIterator[Buckets]:
    async with buckets(
        tmp_path, provider="azure", endpoint=store.url, bucketName="things", secretRef={"name": "key"}
    ) as made:
        yield made


def index_of(store: ObjectStore, *keys: str) -> str:
    lines = "".join(f"{key} {store.etag(key)}\n" for key in sorted(keys or FILES))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def service_account(cloud: Clouds) -> bytes:
    return json.dumps(
        {"type": "service_account", "client_email": "sa@p", "private_key": cloud.pem.decode(), "token_uri":
         f"{cloud.url}/token"}
    ).encode()  # fmt: skip


@pytest.mark.spec("SRC-BKT-01", "SRC-BKT-02")
async def test_a_google_bucket_is_fetched_with_the_key_of_a_service_account(
    google: Buckets, store: ObjectStore, cloud: Clouds
) -> None:
    store.bearer = "gcp of sa@p"
    google.secret("key", {"serviceaccount": service_account(cloud)})
    obj, _ = await google.run(google.object())
    assert google.files(obj.status.artifact) == FILES
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == index_of(store)
    store.requests.clear()
    again, _ = await google.run(obj)
    assert again.status.artifact == obj.status.artifact
    assert not any("alt=media" in line for line in store.requests)


async def test_a_google_object_that_changes_meanwhile_is_as_it_is_then(
    google: Buckets, store: ObjectStore, cloud: Clouds
) -> None:
    google.secret("key", {"serviceaccount": service_account(cloud)})

    def change(key: str) -> None:
        store.objects["a.yaml"] = b"a: later"
        store.objects.pop("z", None)

    store.before_read = change
    obj, _ = await google.run(google.object())
    assert google.files(obj.status.artifact) == {key: c for key, c in store.objects.items() if not key.endswith("/")}
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == index_of(store, "a.yaml", "dir/b c.yaml", "dir/caf\u00e9+%.yaml")
    store.before_read = lambda key: None
    store.requests.clear()
    again, _ = await google.run(obj)
    assert again.status.artifact == obj.status.artifact
    assert not any("alt=media" in line for line in store.requests)


@pytest.mark.spec("SRC-BKT-09")
@pytest.mark.parametrize(
    ("provider", "data", "message"),
    [
        ("gcp", {}, "required fields 'serviceaccount'"),
        ("gcp", {"serviceaccount": b"no json"}, "is not the JSON key of a service account"),
        ("azure", {"tenantId": b"t"}, "requires a 'clientId' or 'accountKey' field"),
        ("azure", {"accountKey": b"no base64!"}, "'accountKey' is not Base64"),
        ("azure", {"sasKey": b"?no-pairs"}, "unable to parse SAS token"),
    ],
)
async def test_incomplete_secrets_fail(
    google: Buckets, azure: Buckets, provider: str, data: dict[str, bytes], message: str
) -> None:
    made = google if provider == "gcp" else azure
    made.secret("key", data)
    error = await made.failure(made.object())
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("AuthenticationFailed", "FetchFailed")
    assert message in error.message


@pytest.mark.spec("SRC-BKT-08")
@pytest.mark.parametrize("provider", ["gcp", "azure"])
async def test_missing_buckets_are_told(
    google: Buckets, azure: Buckets, store: ObjectStore, cloud: Clouds, provider: str
) -> None:
    made = google if provider == "gcp" else azure
    made.secret("key", {"serviceaccount": service_account(cloud)} if provider == "gcp" else {"sasKey": b"sig=x"})
    error = await made.failure(made.object(bucketName="nowhere"))
    assert error.reason == "BucketOperationFailed"
    assert "bucket 'nowhere' not found" in error.message


async def test_an_azure_container_is_fetched_with_the_shared_key(azure: Buckets, store: ObjectStore) -> None:
    store.key = b"0123456789abcdef"
    azure.secret("key", {"accountKey": base64.b64encode(store.key)})
    endpoint = f"{store.url}/acct"  # an emulator has the account in the path, the cloud in the host name
    obj, _ = await azure.run(azure.object(endpoint=endpoint))
    assert azure.files(obj.status.artifact) == FILES
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == index_of(store)
    store.key = b"fedcba9876543210"
    error = await azure.failure(azure.object(endpoint=endpoint))
    assert "AuthenticationFailed" in error.message


@pytest.mark.spec("SRC-BKT-12")
async def test_a_signature_is_merged_into_the_query_of_the_endpoint(azure: Buckets, store: ObjectStore) -> None:
    store.sas = "a+b/c="
    azure.secret("key", {"sasKey": b"?sv=2021&sig=a%2Bb%2Fc%3D&sp=rl\n"})
    obj, _ = await azure.run(azure.object(endpoint=f"{store.url}/?sp=w&extra=1"))
    assert azure.files(obj.status.artifact) == FILES
    assert all("extra=1" in line and "sp=rl" in line and "sp=w" not in line for line in store.requests)


@pytest.mark.spec("SRC-BKT-12", "SEC-35")
@pytest.mark.parametrize("fault", ["refused", "unreachable", "bad host"])
async def test_no_signature_is_seen_in_errors(azure: Buckets, store: ObjectStore, fault: str) -> None:
    store.sas = "right"
    azure.secret("key", {"sasKey": b"sv=2021&sig=canary-signature"})
    endpoints = {"refused": store.url, "unreachable": "http://127.0.0.1:1", "bad host": "http://no.such.host.invalid"}
    error = await azure.failure(azure.object(endpoint=f"{endpoints[fault]}/?sig2=canary-two"))
    assert error.reason == "BucketOperationFailed"
    assert "canary" not in error.message
    assert "sig" not in error.message.replace("signature", "")


@pytest.mark.spec("SRC-COM-32")
async def test_containers_and_buckets_open_to_service_accounts(
    store: ObjectStore, cloud: Clouds, tmp_path: Path
) -> None:
    environment = {"AZURE_AUTHORITY_HOST": cloud.url, "CLOUDSDK_API_ENDPOINT_OVERRIDES_STS": cloud.url,
                   "GCE_METADATA_HOST": cloud.url.removeprefix("http://")}  # fmt: skip
    for provider, bearer, endpoint in (("azure", "azure of app-1", store.url), ("gcp", "gcp federated", store.host)):
        spec: dict[str, Any] = {"provider": provider, "endpoint": endpoint, "bucketName": "things", "insecure": True}
        for gate in (True, False):
            async with buckets(
                tmp_path / f"{provider}-{gate}", environment=environment, accounts=OneAccount(ENTRA),
                workload=WorkloadPolicy(object_level=gate), **spec,
            ) as made:  # fmt: skip
                store.bearer = bearer
                obj = made.object(serviceAccountName="reader")
                if gate:
                    obj, _ = await made.run(obj)
                    assert made.files(obj.status.artifact) == FILES
                else:
                    error = await made.failure(obj)
                    assert isinstance(error, Stalled)
                    assert error.reason == "FeatureGateDisabled"


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
async def test_nobody_uses_the_engines_identity_under_strict_tenancy(
    store: ObjectStore, tmp_path: Path, provider: str
) -> None:
    endpoint = store.url if provider == "azure" else store.host
    strict = WorkloadPolicy(object_level=True, own_identity=False)
    async with buckets(tmp_path, workload=strict, provider=provider, endpoint=endpoint, bucketName="things") as made:
        error = await made.failure(made.object())
        assert isinstance(error, Stalled)
        assert error.reason == "AccessDenied"
        made.secret("managed", {"clientId": b"identity-of-the-node"})
        made.secret("nobody", {"authorityHost": b"https://login.example.com"})
        if provider == "azure":
            for name in ("managed", "nobody"):
                error = await made.failure(made.object(secretRef={"name": name}))
                assert (isinstance(error, Stalled), error.reason) == (True, "AccessDenied")


@pytest.mark.spec("SEC-49")
async def test_who_has_not_the_key_of_a_certificate_or_the_password_of_a_proxy_is_somebody_else(
    tmp_path: Path,
) -> None:
    spec: dict[str, Any] = {"certSecretRef": {"name": "tls"}, "proxySecretRef": {"name": "proxy"}}
    keys = set()
    async with buckets(tmp_path, endpoint="s3.example.com", bucketName="things", **spec) as made:
        for key, password in ((b"mine", b"a"), (b"a guess", b"a"), (b"mine", b"b")):
            made.secret("tls", {"tls.crt": b"public", "tls.key": key})
            made.secret("proxy", {"address": b"http://proxy.example.com", "username": b"me", "password": password})
            obj = made.object()
            live = LiveObject(Reference("", "Bucket", "default", "app"), "v1", obj.metadata, b"{}")
            opened = await made.controller._access.open(obj, RecordedScope(live, objects=made.objects))
            keys.add(opened.key)
    assert len(keys) == 3


@pytest.mark.spec("SRC-BKT-10")
async def test_an_ldap_user_needs_name_and_password(cloud: Clouds, tmp_path: Path) -> None:
    sts = {"provider": "ldap", "endpoint": f"{cloud.url}/sts/", "secretRef": {"name": "ldap"}}
    async with buckets(tmp_path, endpoint="127.0.0.1:1", bucketName="things", insecure=True, sts=sts) as made:
        made.secret("ldap", {"username": b"me"})
        error = await made.failure(made.object())
        assert isinstance(error, Retry)
        assert error.reason == "AuthenticationFailed"
        assert "required fields username, password" in error.message
        made.secret("ldap", {"username": b"me", "password": b"ldap-canary"})
        error = await made.failure(made.object())
        assert error.reason == "BucketOperationFailed", "keys were issued, the server is not there"
        assert cloud.asked[-1][1]["LDAPPassword"] == "ldap-canary"
