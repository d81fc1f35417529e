from __future__ import annotations

import base64

import msgspec
import pytest

from headrace.core.secrecy import keeping_secrets, secrets
from headrace.engine.credentials import register_secrets
from headrace.model.objects import LiveObject, Metadata
from headrace.model.reference import Reference

KUBECONFIG = """\
apiVersion: v1
kind: Config
users:
- name: deployer
  user:
    token: sha256~abcdefgh
    client-key-data: TG9uZ0Jhc2U2NEtleURhdGFIZXJlMTIzNA==
"""


def registered(**data: str) -> frozenset[str]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    raw = msgspec.json.encode({"data": encoded})
    with keeping_secrets():
        register_secrets(LiveObject(Reference("", "Secret", "d", "s"), "v1", Metadata(), raw))
        return secrets()


@pytest.mark.spec("SEC-35")
def test_values_of_a_secret_are_registered_but_not_what_is_public_or_a_word() -> None:
    assert registered(password="correct horse", username="administrator", pin="1234") == {"correct horse"}


@pytest.mark.spec("SEC-35")
def test_of_a_kubeconfig_the_credentials_are_registered_line_by_line_but_not_its_words() -> None:
    found = registered(value=KUBECONFIG)
    assert {"sha256~abcdefgh", "TG9uZ0Jhc2U2NEtleURhdGFIZXJlMTIzNA=="} <= found
    assert "kind: Config" not in found


def test_outside_of_a_run_nothing_is_kept() -> None:
    registered(password="correct horse")
    assert secrets() == frozenset()
