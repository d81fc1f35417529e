"""The issuers of three clouds and of GitHub on the loopback, as far as identities speak to them.

They speak the wire protocols that the clouds document, and check what is sent to them: signatures are computed here
again from the request as it came, not by the code under test. What they were asked is kept.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ISSUED = ("ASIATEMPORARY", "temporary-secret-key", "temporary-session-token")
_STS = """<?xml version="1.0"?><{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>
<Credentials><AccessKeyId>{0}</AccessKeyId><SecretAccessKey>{1}</SecretAccessKey><SessionToken>{2}</SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></{action}Result></{action}Response>"""


@dataclass
class Clouds:
    """Running issuers. `asked` are (path, form or JSON, headers) of all requests so far; `rsa` verifies assertions."""

    url: str = ""
    rsa: RSAPrivateKey = field(default_factory=lambda: generate_private_key(65537, 2048))
    secrets: dict[str, str] = field(default_factory=lambda: {ISSUED[0]: ISSUED[1], "AKIDENV": "environment-secret"})
    asked: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    fail: set[str] = field(default_factory=set)
    organizations: tuple[str, ...] = ("acme",)
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What describes clusters, by path."""
    exchange: Callable[[str, str], Awaitable[str]] | None = None
    """Google's access token for (token, audience); without, they are all the same."""

    @property
    def pem(self) -> bytes:
        return self.rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        kind = request.headers.get("Content-Type", "")
        sent: dict[str, Any] = dict(parse_qsl(body.decode())) if "form" in kind else json.loads(body or b"{}")
        self.asked.append((request.path, sent | dict(request.query), dict(request.headers)))
        if request.path in self.fail:
            return web.json_response({"error": "invalid_client", "error_description": "you may not"}, status=401)
        if self.exchange is not None and request.path == "/v1/token":
            token = await self.exchange(sent["subject_token"], sent["audience"])
            return web.json_response({"access_token": token, "expires_in": 3600})
        answers = (self._aws, self._azure, self._gcp, self._clusters, self._github)
        for answer in answers:
            made = answer(request, sent, body)
            if made is not None:
                return made
        return web.json_response({"message": "no such thing"}, status=404)

    def _aws(self, request: web.Request, sent: dict[str, Any], body: bytes) -> web.Response | None:
        keys = {"AccessKeyId": ISSUED[0], "SecretAccessKey": ISSUED[1], "Token": ISSUED[2],
                "Expiration": "2099-01-01T00:00:00Z"}  # fmt: skip
        match request.path:
            case "/sts/":
                return web.Response(text=_STS.format(*ISSUED, action=sent["Action"]), content_type="text/xml")
            case "/ecr/" | "/ecr-public/":
                check_signature(request, body, self.secrets)
                token = base64.b64encode(b"AWS:registry-password").decode()
                data = {"authorizationToken": token, "expiresAt": 4070908800.5}
                return web.json_response({"authorizationData": [data] if request.path == "/ecr/" else data})
            case "/latest/api/token":
                assert request.method == "PUT"
                return web.Response(text="imds-session")
            case "/latest/meta-data/iam/security-credentials/":
                assert request.headers["X-aws-ec2-metadata-token"] == "imds-session"
                return web.Response(text="node-role")
            case "/latest/meta-data/iam/security-credentials/node-role" | "/pod-identity":
                return web.json_response(keys)
        return None

    def _azure(self, request: web.Request, sent: dict[str, Any], body: bytes) -> web.Response | None:
        if request.path.endswith("/oauth2/v2.0/token"):
            assert sent["grant_type"] == "client_credentials"
            return web.json_response({"access_token": f"azure of {sent['client_id']}", "expires_in": 3600})
        if request.path == "/metadata/identity/oauth2/token":
            assert request.headers["Metadata"] == "true"
            who = request.query.get("client_id", "machine")
            return web.json_response({"access_token": f"managed {who}", "expires_in": "3600"})
        if request.path == "/oauth2/exchange":
            return web.json_response({"refresh_token": f"acr for {sent['access_token']}"})
        return None

    def _gcp(self, request: web.Request, sent: dict[str, Any], body: bytes) -> web.Response | None:
        metadata = "/computeMetadata/v1/"
        if request.path.startswith(metadata):
            assert request.headers["Metadata-Flavor"] == "Google"
            known = {"project/project-id": "proj", "instance/attributes/cluster-location": "europe-west1",
                     "instance/attributes/cluster-name": "prod"}  # fmt: skip
            path = request.path.removeprefix(metadata)
            if path == "instance/service-accounts/default/token":
                return web.json_response({"access_token": "gcp of the machine", "expires_in": 3599})
            return web.Response(text=known[path])
        if request.path == "/v1/token":
            return web.json_response({"access_token": "gcp federated", "expires_in": 3600})
        if request.path.endswith(":generateAccessToken"):
            assert request.headers["Authorization"] == "Bearer gcp federated"
            return web.json_response({"accessToken": "gcp as account", "expireTime": "2099-01-01T00:00:00Z"})
        if request.path == "/token":
            claims = check_jwt(sent["assertion"], self.rsa.public_key())
            return web.json_response({"access_token": f"gcp of {claims['iss']}", "expires_in": 3600})
        return None

    def _clusters(self, request: web.Request, sent: dict[str, Any], body: bytes) -> web.Response | None:
        """Where clusters are, for those who may ask."""
        if request.path not in self.clusters:
            return None
        assert request.method == ("POST" if request.path.endswith("Credential") else "GET")
        if request.path.startswith("/eks/"):
            check_signature(request, body, self.secrets)
        else:
            assert request.headers["Authorization"].startswith("Bearer ")
        return web.json_response(self.clusters[request.path])

    def _github(self, request: web.Request, sent: dict[str, Any], body: bytes) -> web.Response | None:
        if not request.path.startswith(("/api/app/", "/api/orgs/", "/api/users/")):
            return None
        claims = check_jwt(request.headers["Authorization"].removeprefix("Bearer "), self.rsa.public_key())
        assert claims["exp"] - claims["iat"] <= 600
        _, _, kind, name, *_ = request.path.split("/")
        if kind == "orgs":
            found = name in self.organizations
            return web.json_response({"id": 77} if found else {"message": "Not Found"}, status=200 if found else 404)
        if kind == "users":
            return web.json_response({"id": 78})
        number = request.path.split("/")[4]
        made = {"token": f"ghs_{claims['iss']}_{number}", "expires_at": "2099-01-01T00:00:00Z"}
        return web.json_response(made, status=201)


def check_jwt(token: str, key: RSAPublicKey) -> dict[str, Any]:
    """The claims of a token that `key` signed."""
    head, claims, signature = token.split(".")
    assert json.loads(_unpadded(head))["alg"] == "RS256"
    try:
        key.verify(_unpadded(signature), f"{head}.{claims}".encode(), PKCS1v15(), SHA256())
    except InvalidSignature:
        raise AssertionError("the token is not signed by the key") from None
    found: dict[str, Any] = json.loads(_unpadded(claims))
    return found


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def check_signature(request: web.Request, body: bytes, secrets: dict[str, str]) -> None:
    """Fail unless the request bears a Signature Version 4 of one of the access keys."""
    scheme, _, fields = request.headers["Authorization"].partition(" ")
    assert scheme == "AWS4-HMAC-SHA256"
    given = dict(part.strip().split("=", 1) for part in fields.split(","))
    access, date, region, service, _ = given["Credential"].split("/")
    names = given["SignedHeaders"].split(";")
    assert {"host", "x-amz-date"} <= set(names)
    query = "&".join(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in sorted(parse_qsl(request.query_string)))
    lines = "".join(f"{name}:{request.headers[name]}\n" for name in names)
    canonical = "\n".join(
        (request.method, request.raw_path.partition("?")[0], query, lines, ";".join(names),
         hashlib.sha256(body).hexdigest())
    )  # fmt: skip
    stamp = request.headers["x-amz-date"]
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{date}/{region}/{service}/aws4_request\n"
    text += hashlib.sha256(canonical.encode()).hexdigest()
    key = ("AWS4" + secrets[access]).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    assert hmac.new(key, text.encode(), "sha256").hexdigest() == given["Signature"], "the signature does not match"
    if secrets[access] == ISSUED[1]:
        assert request.headers["x-amz-security-token"] == ISSUED[2]


def eks_token_url(token: str, cluster: str, region: str, secrets: dict[str, str]) -> str:
    """The URL, without its query, that is in a token for an EKS cluster; fail unless STS would answer it."""
    prefix, _, encoded = token.partition(".")
    assert prefix == "k8s-aws-v1"
    assert "=" not in encoded
    url = urlsplit(_unpadded(encoded).decode())
    given = dict(parse_qsl(url.query, strict_parsing=True))
    signature = given.pop("X-Amz-Signature")
    access, date, signed_region, service, end = given["X-Amz-Credential"].split("/")
    assert (signed_region, service, end) == (region, "sts", "aws4_request")
    assert (given["X-Amz-Algorithm"], given["X-Amz-SignedHeaders"]) == ("AWS4-HMAC-SHA256", "host;x-k8s-aws-id")
    assert (given["Action"], given["Version"]) == ("GetCallerIdentity", "2011-06-15")
    assert 0 < int(given["X-Amz-Expires"]) <= 900
    assert given.get("X-Amz-Security-Token", "") == (ISSUED[2] if access == ISSUED[0] else "")
    query = "&".join(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in sorted(given.items()))
    empty = hashlib.sha256(b"").hexdigest()
    canonical = (f"GET\n{url.path}\n{query}\nhost:{url.netloc}\nx-k8s-aws-id:{cluster}\n\n"
                 f"host;x-k8s-aws-id\n{empty}")  # fmt: skip
    text = f"AWS4-HMAC-SHA256\n{given['X-Amz-Date']}\n{date}/{region}/sts/aws4_request\n"
    text += hashlib.sha256(canonical.encode()).hexdigest()
    key = ("AWS4" + secrets[access]).encode()
    for part in (date, region, "sts", "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    assert hmac.new(key, text.encode(), "sha256").hexdigest() == signature, "the signature does not match"
    return f"{url.scheme}://{url.netloc}{url.path}"


@contextlib.asynccontextmanager
async def clouds(context: ssl.SSLContext | None = None) -> AsyncIterator[Clouds]:
    """Serve them all on one free port of the loopback."""
    made = Clouds()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.serve)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    made.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
