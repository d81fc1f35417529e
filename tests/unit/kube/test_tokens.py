"""Tokens of accounts: what is asked of the API server is proven against a real one in tests/cluster."""

from __future__ import annotations

import pytest

from headrace.kube.client import Client
from headrace.kube.config import ClientConfig
from headrace.kube.errors import ConfigError
from headrace.kube.tokens import IssuedToken, ServiceAccountTokens
from tests.manual_clock import ManualClock


@pytest.mark.parametrize("name", ["", "..", "../../../secrets", "a/../b", "a%2f..%2fb"])
async def test_a_name_leads_to_no_other_path(name: str) -> None:
    clock = ManualClock()
    async with Client(ClientConfig(server="https://127.0.0.1:9"), clock=clock) as client:
        tokens = ServiceAccountTokens(client, clock)
        with pytest.raises(ConfigError, match="invalid name"):
            await tokens.issue("default", name, ("audience",))
        assert client.counter.total() == 0


def test_a_token_is_not_shown_by_accident() -> None:
    assert "secret" not in repr(IssuedToken("secret", 1.0))
