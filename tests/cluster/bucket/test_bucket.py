"""Bucket as users see it: a real engine, a real control plane, a real S3 server."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import BUCKET
from headrace.kube.resource import Resource
from headrace.model.reference import Reference
from tests.cluster.kustomization.conftest import engine, world
from tests.cluster.kustomization.world import Json, RunningEngine, World, condition
from tests.servers.s3 import KEYS, REGION, S3Server

__all__ = ["engine", "world"]

SECRETS = Resource("", "v1", "Secret", "secrets", namespaced=True)


async def secret(world: World, name: str, **data: str) -> None:
    body = {"metadata": {"name": name}, "stringData": data, "apiVersion": "v1", "kind": "Secret"}
    await world.client.apply(SECRETS, world.namespace, name, msgspec.json.encode(body), field_manager="tests")


async def create(world: World, server: S3Server, bucket: str, **spec: Any) -> None:
    base = {
        "interval": "1h", "endpoint": server.endpoint, "bucketName": bucket, "insecure": True, "region": REGION,
        "secretRef": {"name": "keys"},
    }  # fmt: skip
    await world.create(BUCKET, "app", {key: value for key, value in (base | spec).items() if value is not None})


async def ready(world: World, after: str = "") -> Json:
    return await world.until(
        BUCKET,
        "app",
        lambda o: condition(o, "Ready").get("status") == "True" and o["status"]["artifact"]["revision"] != after,
    )


def writes(engine: RunningEngine) -> dict[str, int]:
    """What was written; the Secret is read for each poll."""
    return {name: number for name, number in engine.writes().items() if not name.startswith("get ")}


def reference(world: World) -> Reference:
    return BUCKET.reference(world.namespace, "app")


@pytest.mark.spec("SRC-COM-01", "SRC-BKT-02")
async def test_a_bucket_becomes_ready_as_in_flux_and_a_quiet_poll_writes_nothing(
    world: World, engine: RunningEngine, server: S3Server, bucket: str
) -> None:
    await server.put(bucket, "a.yaml", b"a: 1")
    await secret(world, "keys", accesskey=KEYS.access_key, secretkey=KEYS.secret_key)
    await create(world, server, bucket, interval="1s")
    found = await ready(world)
    artifact = found["status"]["artifact"]
    message = f"stored artifact: revision '{artifact['revision']}'"
    told = {c["type"]: (c["status"], c["reason"], c["message"]) for c in found["status"]["conditions"]}
    assert told == {"Ready": ("True", "Succeeded", message), "ArtifactInStorage": ("True", "Succeeded", message)}
    assert found["metadata"]["finalizers"] == ["finalizers.fluxcd.io"]
    assert found["status"]["url"].endswith(f"/bucket/{world.namespace}/app/latest.tar.gz")
    event = await world.until_event("stored artifact with 1 fetched files", kind="Bucket")
    assert (event["type"], event["reason"]) == ("Normal", "NewArtifact")
    await engine.until_caused(reference(world), "interval")
    before = writes(engine)
    seen = len(engine.traces(reference(world)))
    async with asyncio.timeout(30):
        while len(engine.traces(reference(world))) < seen + 2:
            await asyncio.sleep(0.02)
    assert writes(engine) == before
    await world.delete(BUCKET, "app")
    await world.until_gone(BUCKET, "app")


@pytest.mark.spec("SRC-BKT-09", "SRC-COM-13")
async def test_a_secret_that_comes_later_wakes_the_bucket(
    world: World, engine: RunningEngine, server: S3Server, bucket: str
) -> None:
    await server.put(bucket, "a.yaml", b"a: 1")
    await create(world, server, bucket)
    found = await world.until(BUCKET, "app", lambda o: condition(o, "FetchFailed"))
    assert condition(found, "FetchFailed")["reason"] == "AuthenticationFailed"
    await secret(world, "keys", accesskey=KEYS.access_key, secretkey="a-wrong-canary")
    found = await world.until(
        BUCKET, "app", lambda o: condition(o, "FetchFailed").get("reason") == "BucketOperationFailed"
    )
    assert "a-wrong-canary" not in str(found) + str(await world.events(kind="Bucket"))
    await secret(world, "keys", accesskey=KEYS.access_key, secretkey=KEYS.secret_key)
    found = await ready(world)
    assert condition(found, "FetchFailed") == {}


@pytest.mark.spec("SRC-BKT-10", "SRC-BKT-11")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"provider": "gcp", "sts": {"provider": "aws"}}, "only supported for the 'aws' and 'generic'"),
        ({"provider": "aws", "sts": {"provider": "ldap"}}, "'aws' is the only supported STS provider"),
        ({"sts": {"provider": "aws"}}, "'ldap' is the only supported STS provider"),
        ({"provider": "aws", "sts": {"provider": "aws", "secretRef": {"name": "x"}}}, "sts.secretRef is not required"),
        ({"provider": "aws", "sts": {"provider": "aws", "certSecretRef": {"name": "x"}}}, "sts.certSecretRef is not"),
        ({"serviceAccountName": "x"}, "ServiceAccountName is not supported for the 'generic'"),
        ({"provider": "aws", "serviceAccountName": "x", "secretRef": {"name": "x"}}, "cannot set both"),
        ({"provider": "other"}, "Unsupported value"),
        ({"timeout": "1h"}, "spec.timeout"),
    ],
)
async def test_what_does_not_fit_together_is_not_admitted(world: World, spec: dict[str, Any], message: str) -> None:
    if "sts" in spec:
        spec = spec | {"sts": {"endpoint": "https://sts.example.com"} | spec["sts"]}
    base = {"interval": "1h", "endpoint": "s3.example.com", "bucketName": "b"}
    with pytest.raises(Exception, match=message):
        await world.create(BUCKET, "app", base | spec)


@pytest.mark.spec("SRC-COM-32")
async def test_a_service_account_without_the_gate_stalls(world: World, engine: RunningEngine) -> None:
    spec = {"interval": "1h", "endpoint": "s3.amazonaws.com", "bucketName": "b", "provider": "aws"}
    await world.create(BUCKET, "app", spec | {"serviceAccountName": "reader"})
    found = await world.until(BUCKET, "app", lambda o: condition(o, "Stalled"))
    assert condition(found, "Ready")["reason"] == "FeatureGateDisabled"
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
