from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.kube.config import ClientConfig, Credentials, default_config, in_cluster, load_kubeconfig
from headrace.kube.errors import ConfigError

PEM = b"-----BEGIN CERTIFICATE-----\n"


def kubeconfig(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **more: Any) -> bytes:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://example.test:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    return json.dumps(document | more).encode()


def load(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **more: Any) -> ClientConfig:
    return load_kubeconfig(kubeconfig(cluster, user, **more), trusted=True)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_inline_data_is_decoded() -> None:
    config = load(
        {"certificate-authority-data": b64(PEM), "tls-server-name": "kube", "proxy-url": "http://proxy:3128"},
        {"client-certificate-data": b64(b"cert"), "client-key-data": b64(b"key")},
    )
    assert config.server == "https://example.test:6443"
    assert config.host == "example.test:6443"
    assert config.ca == PEM
    assert config.tls_server_name == "kube"
    assert config.proxy_url == "http://proxy:3128"
    assert config.credentials == Credentials(client_certificate=b"cert", client_key=b"key")


@pytest.mark.parametrize(
    ("user", "credentials"),
    [
        ({"token": "t"}, Credentials(token="t")),
        ({"tokenFile": "/run/token"}, Credentials(token_file="/run/token")),
        ({"token": "t", "tokenFile": "/run/token"}, Credentials(token_file="/run/token")),
        ({"username": "u", "password": "p"}, Credentials(username="u", password="p")),
        (
            {"client-certificate": "/c", "client-key": "/k"},
            Credentials(client_certificate_file="/c", client_key_file="/k"),
        ),
        (
            {"client-certificate": "/c", "client-key": "/k", "client-certificate-data": b64(b"c"),
             "client-key-data": b64(b"k")},
            Credentials(client_certificate=b"c", client_key=b"k"),
        ),
        ({}, Credentials()),
        ({"token": None, "username": None}, Credentials()),
    ],
)  # fmt: skip
def test_every_form_of_user_is_understood(user: dict[str, Any], credentials: Credentials) -> None:
    assert load(user=user).credentials == credentials


def test_impersonation_of_the_operators_own_kubeconfig_is_kept() -> None:
    config = load(user={"as": "alice", "as-uid": "7", "as-groups": ["a", "b"], "as-user-extra": {"k": ["v"]}})
    assert config.impersonation is not None
    assert config.impersonation.user == "alice"
    assert config.impersonation.groups == ("a", "b")
    assert config.impersonation.extra == (("k", ("v",)),)


def test_an_exec_plugin_keeps_its_arguments_and_environment() -> None:
    plugin = load(user={"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "login", "args": ["--json"],
        "env": [{"name": "A", "value": "1"}], "interactiveMode": "Never", "provideClusterInfo": True,
    }}).credentials.exec  # fmt: skip
    assert plugin is not None
    assert (plugin.command, plugin.args, plugin.env) == ("login", ("--json",), (("A", "1"),))
    assert plugin.provide_cluster_info


@pytest.mark.parametrize(
    ("cluster", "user", "message"),
    [
        ({"server": ""}, {}, "no server"),
        ({"server": "ftp://x"}, {}, "not an http or https URL"),
        ({"server": "https://u:p@x"}, {}, "must not hold credentials"),
        ({"certificate-authority-data": "!"}, {}, "certificate-authority-data of the kubeconfig is not base64"),
        ({"insecure-skip-tls-verify": True, "certificate-authority": "/ca"}, {}, "exclude each other"),
        ({"proxy-url": "socks5://x"}, {}, "SOCKS is not supported"),
        ({}, {"client-certificate": "/c"}, "needs its key"),
        ({}, {"token": "t", "username": "u"}, "exclude each other"),
        ({}, {"token": "a\nb"}, "characters that a header cannot carry"),
        ({}, {"token": 7}, "the user of the kubeconfig is not valid"),
        ({}, {"auth-provider": {"name": "oidc"}}, "auth-provider is not supported"),
        ({}, {"as-groups": ["x"]}, "need `as`"),
        (
            {},
            {"exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}},
            "unsupported apiVersion",
        ),
        (
            {},
            {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "x", "interactiveMode": "Always"}},
            "needs a terminal",
        ),
        ({"certificate-authority": "relative/ca"}, {}, "is relative"),
    ],
)
def test_what_cannot_be_used_is_said(cluster: dict[str, Any], user: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(cluster, user)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"current-context": ""}, "no current-context"),
        ({"current-context": "x"}, "no context 'x'"),
        ({"clusters": []}, "no cluster 'c'"),
        ({"users": []}, "no user 'u'"),
        ({"users": [{"name": "u", "user": {}}, {"name": "u", "user": {}}]}, "the user 'u' twice"),
        ({"clusters": {}}, "document of the kubeconfig is not valid"),
    ],
)
def test_what_is_missing_is_named(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(**more)


@pytest.mark.parametrize("raw", [b"a: [", b"\x00", b"\xff\xff", b"[" * 5000])
def test_what_is_no_yaml_is_refused_without_quoting_it(raw: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        load_kubeconfig(b"token: hunter2\n" + raw, trusted=True)
    assert "hunter2" not in str(caught.value)


def test_another_context_may_be_chosen() -> None:
    contexts = [
        {"name": "c", "context": {"cluster": "c", "user": "u"}},
        {"name": "other", "context": {"cluster": "c", "user": "", "namespace": "team"}},
    ]
    config = load_kubeconfig(kubeconfig(user={"token": "t"}, contexts=contexts), "other", trusted=True)
    assert config.namespace == "team"
    assert config.credentials == Credentials()


def test_of_several_files_the_first_to_name_a_thing_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a" / "config", tmp_path / "b" / "config"
    first.parent.mkdir()
    second.parent.mkdir()
    first.write_bytes(kubeconfig(user={"client-certificate": "c.pem", "client-key": "k.pem"}, contexts=[]))
    second.write_bytes(kubeconfig({"server": "https://second.test"}, {"token": "second"}, **{"current-context": "x"}))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{first}:{second}")
    config = default_config()
    assert config.server == "https://example.test:6443"
    assert config.credentials.client_certificate_file == str(first.parent / "c.pem")
    assert config.credentials.client_key_file == str(first.parent / "k.pem")


def test_a_file_that_was_named_and_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        default_config(tmp_path / "none")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="No such file"):
        default_config()


def test_without_any_configuration_the_ways_to_give_one_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="no cluster is configured"):
        default_config()


def test_in_a_pod_the_service_account_is_used(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_bytes(PEM)
    (tmp_path / "namespace").write_text("flux-system\n")
    config = in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}, tmp_path)
    assert config.server == "https://[fd00::1]:443"
    assert config.credentials.token_file == str(tmp_path / "token")
    assert config.ca_file == str(tmp_path / "ca.crt")
    assert config.namespace == "flux-system"


def test_outside_of_a_pod_there_is_no_service_account(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="KUBERNETES_SERVICE_HOST"):
        in_cluster({}, tmp_path)
    with pytest.raises(ConfigError, match="no service account token"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}, tmp_path)


def test_no_representation_shows_a_credential() -> None:
    config = load(user={"username": "u", "password": "hunter2"})
    assert "hunter2" not in repr(config)
    assert "hunter2" not in repr(load(user={"token": "hunter2"}))


def test_different_credentials_are_different_clusters() -> None:
    one, two = load(user={"token": "a"}), load(user={"token": "b"})
    assert one.identity() == load(user={"token": "a"}).identity()
    assert one.identity() != two.identity()
    assert one.identity(b"key") != one.identity(b"other")
    assert one.identity().startswith("example.test:6443/")
