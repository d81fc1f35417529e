"""health: probes say which check does not pass."""

from __future__ import annotations

from aiohttp.test_utils import TestClient, TestServer

from headrace.edge.health import health_application


async def test_probes_answer_each_by_its_own_checks() -> None:
    state = {"synced": "not yet"}
    app = health_application({"loop": lambda: ""}, {"watches": lambda: state["synced"]})
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/healthz")).status == 200
        unready = await client.get("/readyz")
        assert (unready.status, await unready.text()) == (500, "watches: not yet")
        state["synced"] = ""
        assert (await client.get("/readyz")).status == 200
