"""What the engine does while the API server is away, and what it has not lost when it is back."""

from __future__ import annotations

from headrace.kube.client import Client
from tests.cluster.engine.thing import install_crd, stage
from tests.eventually import eventually
from tests.servers.control_plane import ControlPlane
from tests.servers.fault_proxy import fault_proxy


async def test_what_changed_during_an_outage_is_done_after_it(
    client: Client, cluster: ControlPlane, namespace: str
) -> None:
    await install_crd(client)
    async with fault_proxy(cluster.config) as proxy, stage(client, namespace, proxy.config) as engine:
        await engine.create("changed", text="one")
        await engine.create("untouched", text="one")
        await engine.has("changed", "Ready", "True")
        await engine.has("untouched", "Ready", "True")
        outage = proxy.reset()
        proxy.end_watches(reset=True)
        await engine.patch("changed", spec={"text": "two"})
        await engine.create("new", dependsOn=["changed"])
        await outage.happened()
        proxy.remove(outage)
        await engine.has("new", "Ready", "True")
        live = await engine.get("changed")
        assert live.content()["status"]["observedGeneration"] == 2
        assert len(engine.engine.known()) == 3
        assert engine.engine.unattended() == ()


async def test_a_status_that_is_refused_for_a_while_is_written_in_the_end(
    client: Client, cluster: ControlPlane, namespace: str
) -> None:
    await install_crd(client)
    async with fault_proxy(cluster.config) as proxy, stage(client, namespace, proxy.config) as engine:
        refusal = proxy.fail(500, method="PATCH", path=r"/status$", times=3)
        await engine.create("a", text="one")
        await engine.has("a", "Ready", "True")
        assert refusal.hits == 3
        await eventually(lambda: engine.engine.traces(engine.reference("a"))[0].result == "succeeded")
