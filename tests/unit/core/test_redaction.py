from __future__ import annotations

import base64
import logging

import pytest

from headrace.core.redaction import LIMIT, redact
from headrace.core.secrecy import keeping_secrets, register

CANARY = "c4n4ry+s3cret/value=="


@pytest.mark.spec("SEC-35")
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("fetch failed: https://robot:{0}@git.example.com/r.git: 401", id="URL userinfo"),
        pytest.param("fetch failed: ssh://git:{0}@git.example.com/r.git: 401", id="password of another scheme"),
        pytest.param("GET https://acc.blob.core.windows.net/c?sv=2024&sig={0}&se=2027", id="SAS query"),
        pytest.param("GET https://b.s3.amazonaws.com/k?X-Amz-Signature={0}", id="presigned URL"),
        pytest.param("request headers: Authorization: Bearer {0}", id="Authorization header"),
        pytest.param('{{"authorization":"Basic {0}"}}', id="Authorization in JSON"),
        pytest.param("Proxy-Authorization: Basic {0}", id="proxy"),
        pytest.param('data: {{"password": "{0}"}}', id="password in JSON"),
        pytest.param("client_secret={0} refused", id="client secret"),
        pytest.param("aws_secret_access_key = {0}", id="AWS key"),
        pytest.param("GET https://login.example.com/?state=1&code={0}", id="code of a login"),
        pytest.param("https://b.example.com/k?signature={0}", id="signature"),
        pytest.param("https://b.example.com/k?x-goog-credential={0}", id="Google's presigned URL"),
        pytest.param("passphrase: {0}", id="passphrase"),
        pytest.param("PA\u017f\u017fWORD={0}", id="letters that are equal when case is ignored"),
        pytest.param("-----BEGIN OPENSSH PRIVATE KEY-----\n{0}\n-----END OPENSSH PRIVATE KEY-----", id="PEM"),
        pytest.param("-----BEGIN RSA PRIVATE KEY-----\n{0}\n cut off", id="PEM cut off"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    clean = redact(text.format(CANARY))
    assert CANARY not in clean
    assert "c4n4ry" not in clean
    assert "***" in clean


@pytest.mark.spec("SEC-35")
def test_a_token_in_place_of_the_user_of_a_url_is_taken_out() -> None:
    assert redact("clone https://t0ken@git.example.com/r.git") == "clone https://***@git.example.com/r.git"


@pytest.mark.spec("SEC-35")
@pytest.mark.parametrize(
    "token",
    [*(f"gh{letter}_" + "a1B2" * 9 for letter in "pousr"), "xoxb-" + "a1B2" * 5,
     "github_pat_" + "a1B2_" * 6, "glpat-" + "a1B2" * 5, "AGE-SECRET-KEY-1" + "QX" * 20,
     "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"])
def test_tokens_are_known_by_their_shape(token: str) -> None:
    assert token not in redact(f"bad credentials {token}.")


@pytest.mark.spec("SEC-35")
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda s: s, id="plain"),
        pytest.param(lambda s: base64.b64encode(s.encode()).decode(), id="base64"),
        pytest.param(lambda s: base64.b64encode(f"user:{s}".encode()).decode(), id="basic auth"),
        pytest.param(lambda s: base64.b64encode(f"me:{s}".encode()).decode(), id="basic auth at another offset"),
        pytest.param(lambda s: s.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"), id="URL"),
    ],
)
def test_a_secret_the_run_has_read_is_taken_out_in_every_form(form: object) -> None:
    secret = "correct+horse/battery=staple"
    text = form(secret)  # type: ignore[operator]
    with keeping_secrets():
        register(secret)
        clean = redact(f"the server said {text} was wrong")
    assert text not in clean
    assert secret not in clean
    assert base64.b64encode(secret.encode()).decode()[4:-8] not in clean
    assert redact(f"the server said {secret}") == f"the server said {secret}", "kept beyond its run"


@pytest.mark.parametrize(
    "text",
    [
        "Deployment/default/podinfo configured",
        "clone ssh://git@github.com/org/repo.git",
        "get https://proxy.example.com:8443/module/@v/v1.2.3.zip",
        "stored artifact for revision 'main@sha1:7a4c1bd1e5d5d0e1ee8d3f5b0a2ab1c0f6a4d4a5'",
        "Secret \"registry-credentials\" not found",
        "spec.template.spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value",
        "spec.password: Invalid value: must be a string",
        "https://github.com/org/repo.git?ref=main",
        "no matches for kind \"Token\" in version \"v1\"",
    ],
)
def test_ordinary_messages_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_short_values_are_no_secrets_so_that_messages_stay_readable() -> None:
    with keeping_secrets():
        register("prod")
        assert redact("deployed to prod") == "deployed to prod"


def test_endless_texts_are_cut_before_they_are_searched() -> None:
    assert len(redact("x" * (4 * LIMIT))) == LIMIT


@pytest.mark.spec("SEC-35")
def test_log_lines_and_stack_traces_pass_through_redaction(capsys: pytest.CaptureFixture[str]) -> None:
    from headrace.core import log

    log.add_redaction(redact)
    log.configure("info", "json")
    try:
        with keeping_secrets():
            register(CANARY)
            try:
                raise ValueError(f"refused: {CANARY}")
            except ValueError:
                logging.getLogger("x").exception("failed with %s", CANARY, extra={"field": CANARY})
    finally:
        logging.getLogger().handlers.clear()
    written = capsys.readouterr().err
    assert "failed with ***" in written
    assert CANARY not in written
