"""Which clusters are shared, kept and closed; nothing here needs an answer of one."""

from __future__ import annotations

import pytest

from headrace.kube.cluster import Clusters
from headrace.kube.config import ClientConfig, Credentials
from headrace.kube.errors import ConfigError, KubeError
from headrace.kube.informer import WatchSettings
from tests.eventually import eventually

HERE = ClientConfig(server="http://127.0.0.1:1")
QUICK = WatchSettings(retry_minimum=0.05, retry_maximum=0.1)


def remote(token: str = "t") -> ClientConfig:
    return ClientConfig(server="http://127.0.0.1:2", credentials=Credentials(token=token), trusted=False)


async def test_the_same_kubeconfig_is_one_cluster_and_another_credential_is_another() -> None:
    async with Clusters(HERE, watch=QUICK) as clusters:
        one = clusters.remote(remote(), holder="a")
        assert clusters.remote(remote(), holder="b") is one
        other = clusters.remote(remote("other"), holder="c")
        assert other is not one
        assert other.name != one.name
        assert one.name.startswith("127.0.0.1:2/")
        assert clusters.get(one.name) is one
        assert clusters.get("") is clusters.management
        assert one.client.counter is clusters.management.client.counter


async def test_a_cluster_is_closed_when_its_last_holder_has_left() -> None:
    async with Clusters(HERE, watch=QUICK, idle=0.01) as clusters:
        one = clusters.remote(remote(), holder="a")
        clusters.remote(remote(), holder="b")
        clusters.release("a")
        clusters.release("nobody")
        assert clusters.get(one.name) is one
        clusters.release("b")
        await eventually(lambda: clusters.get(one.name) is None)
        with pytest.raises(KubeError):
            await one.client.request("GET", "/version")
        assert clusters.remote(remote(), holder="a") is not one


async def test_a_holder_whose_kubeconfig_changes_lets_go_of_the_old_cluster() -> None:
    async with Clusters(HERE, watch=QUICK, idle=0.01) as clusters:
        old = clusters.remote(remote("old"), holder="a")
        new = clusters.remote(remote("new"), holder="a")
        await eventually(lambda: clusters.get(old.name) is None)
        assert clusters.get(new.name) is new


async def test_a_cluster_that_was_closed_says_so() -> None:
    async with Clusters(HERE, watch=QUICK) as clusters:
        client = clusters.management.client
    with pytest.raises(ConfigError, match="was closed"):
        await client.request("GET", "/version")
