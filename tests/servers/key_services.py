"""Key services as clouds and Vault offer them, on loopback: the real protocols with real cryptography, small.

Each server holds its own keys, checks who asks as the real one does, and opens only what it has sealed itself.
Facts about the protocols: AWS Signature Version 4 and the KMS API reference; OAuth 2.0 client credentials and JWT
bearer grants (RFC 6749, RFC 7523); Azure Key Vault keys REST API; Cloud KMS v1 REST; Vault transit, Kubernetes auth.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs

from aiohttp import web
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Json = dict[str, Any]
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Refused(Exception):
    """The caller may not, or the ciphertext is not one of ours."""


class Sealed:
    """One symmetric key: seals and opens with AES-256-GCM, a context going along unencrypted."""

    def __init__(self) -> None:
        self._cipher = AESGCM(secrets.token_bytes(32))

    def seal(self, plain: bytes, context: bytes = b"") -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + self._cipher.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes = b"") -> bytes:
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], context)
        except (InvalidTag, ValueError):
            raise Refused("the ciphertext is not of this key") from None


class KeyService(Protocol):
    """One of the servers below."""

    def application(self) -> web.Application:
        """Its routes."""
        ...


@contextlib.asynccontextmanager
async def serving(service: KeyService, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on loopback; the port."""
    runner = web.AppRunner(service.application())
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def without_padding(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


@dataclass
class Assertion:
    """A signed JWT, checked by the public key of whom it should be from."""

    text: str

    def claims(self, public: rsa.RSAPublicKey) -> Json:
        head, body, signature = self.text.split(".")
        algorithm = json.loads(unpadded(head))["alg"]
        scheme = {"RS256": padding.PKCS1v15(), "PS256": padding.PSS(padding.MGF1(hashes.SHA256()), 32)}[algorithm]
        try:
            public.verify(unpadded(signature), f"{head}.{body}".encode(), scheme, hashes.SHA256())
        except InvalidSignature:
            raise Refused("the assertion is not signed by the account's key") from None
        claims: Json = json.loads(unpadded(body))
        return claims


# -- AWS ---------------------------------------------------------------------------------------------------------------


@dataclass
class AwsKms:
    """AWS KMS Decrypt for accounts by access key: (secret, session token)."""

    accounts: dict[str, tuple[str, str]] = field(default_factory=dict)
    keys: dict[str, Sealed] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Access keys of the calls, refused ones too."""

    def encrypt(self, arn: str, plain: bytes, context: dict[str, str] | None = None) -> str:
        """What SOPS keeps of a data key."""
        sealed = self.keys.setdefault(arn, Sealed()).seal(plain, _context(context))
        return base64.b64encode(sealed).decode()

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/", self._call)
        return app

    async def _call(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            self._authenticate(request, body)
            if request.headers.get("X-Amz-Target") != "TrentService.Decrypt":
                raise Refused("UnknownOperationException")
            asked = json.loads(body)
            sealed = base64.b64decode(asked["CiphertextBlob"])
            plain = self.keys[asked["KeyId"]].open(sealed, _context(asked.get("EncryptionContext")))
        except (Refused, KeyError, ValueError) as error:
            told = {"__type": "AccessDeniedException", "message": str(error)}
            return web.json_response(told, status=400, content_type="application/x-amz-json-1.1")
        answer = {"KeyId": asked["KeyId"], "Plaintext": base64.b64encode(plain).decode()}
        return web.json_response(answer, content_type="application/x-amz-json-1.1")

    def _authenticate(self, request: web.Request, body: bytes) -> None:
        """Signature Version 4, computed anew from the request as it came."""
        scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
        given = dict(part.strip().split("=", 1) for part in rest.split(","))
        if scheme != "AWS4-HMAC-SHA256":
            raise Refused("IncompleteSignatureException")
        access_key, *scope = given["Credential"].split("/")
        self.asked.append(access_key)
        secret, session = self.accounts.get(access_key, ("", ""))
        if not secret or request.headers.get("X-Amz-Security-Token", "") != session:
            raise Refused("UnrecognizedClientException")
        names = given["SignedHeaders"]
        headers = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names.split(";"))
        canonical = "\n".join([request.method, request.path, request.query_string, headers, names, _sha256(body)])
        stamp = request.headers["X-Amz-Date"]
        text = "\n".join([scheme, stamp, "/".join(scope), _sha256(canonical.encode())])
        key = f"AWS4{secret}".encode()
        for part in scope:
            key = hmac.digest(key, part.encode(), "sha256")
        if not hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), given["Signature"]):
            raise Refused("InvalidSignatureException")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _context(context: dict[str, str] | None) -> bytes:
    return json.dumps(context or {}, sort_keys=True).encode()


# -- Azure -------------------------------------------------------------------------------------------------------------


@dataclass
class AzureKeyVault:
    """A Key Vault together with the authority that gives tokens for it; https only, as its libraries demand.

    `secrets` and `certificates` are what clients prove themselves with. The host that tokens are for must be a part of
    the vault's own name, which the libraries check: 127.0.0.1 counts as a name in 0.0.1.
    """

    tenant: str = "11111111-1111-1111-1111-111111111111"
    secrets: dict[str, str] = field(default_factory=dict)
    certificates: dict[str, rsa.RSAPublicKey] = field(default_factory=dict)
    port: int = 0
    keys: dict[tuple[str, str], rsa.RSAPrivateKey] = field(default_factory=dict)
    resource: str = ""
    """What it says its tokens are for, if not for itself."""
    shown: list[str] = field(default_factory=list)
    """Tokens of the calls, unknown ones too."""
    _tokens: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def issue(self) -> str:
        """A token."""
        token = secrets.token_urlsafe(24)
        self._tokens.add(token)
        return token

    def encrypt(self, name: str, version: str, plain: bytes) -> str:
        """What SOPS keeps of a data key."""
        key = self.keys.setdefault((name, version), rsa.generate_private_key(65537, 2048))
        return without_padding(key.public_key().encrypt(plain, _OAEP))

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", self._discover)
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self._token)
        app.router.add_post("/keys/{name}/{version}/decrypt", self._decrypt)
        return app

    async def _discover(self, request: web.Request) -> web.Response:
        base = f"{self.url}/{request.match_info['tenant']}"
        return web.json_response(
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
            }
        )

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        try:
            self._authenticate(request.match_info["tenant"], {name: str(value) for name, value in form.items()})
        except (Refused, KeyError, ValueError) as error:
            return web.json_response({"error": "invalid_client", "error_description": str(error)}, status=401)
        return web.json_response({"token_type": "Bearer", "expires_in": 3600, "access_token": self.issue()})

    def _authenticate(self, tenant: str, form: dict[str, str]) -> None:
        client = form["client_id"]
        if tenant != self.tenant or form["grant_type"] != "client_credentials":
            raise Refused("unknown tenant or grant")
        if "client_assertion" in form:
            claims = Assertion(form["client_assertion"]).claims(self.certificates[client])
            if claims["sub"] != client:
                raise Refused("the assertion is somebody else's")
        elif not hmac.compare_digest(self.secrets[client], form.get("client_secret", "")):
            raise Refused("wrong secret")

    async def _decrypt(self, request: web.Request) -> web.Response:
        self.shown.append(bearer(request))
        if bearer(request) not in self._tokens:
            resource = self.resource or f"https://0.0.1:{self.port}"
            where = f'Bearer authorization="{self.url}/{self.tenant}", resource="{resource}"'
            return web.json_response(
                {"error": {"code": "Unauthorized"}}, status=401, headers={"WWW-Authenticate": where}
            )
        name, version = request.match_info["name"], request.match_info["version"]
        asked = await request.json()
        try:
            if asked["alg"] != "RSA-OAEP-256":
                raise Refused("unsupported algorithm")
            plain = self.keys[name, version].decrypt(unpadded(asked["value"]), _OAEP)
        except (Refused, KeyError, ValueError):
            return web.json_response({"error": {"code": "BadParameter"}}, status=400)
        return web.json_response({"kid": f"{self.url}/keys/{name}/{version}", "value": without_padding(plain)})


_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


# -- Google ------------------------------------------------------------------------------------------------------------


@dataclass
class GcpKms:
    """Cloud KMS together with the token endpoint of service accounts."""

    port: int = 0
    keys: dict[str, Sealed] = field(default_factory=dict)
    _accounts: dict[str, rsa.RSAPublicKey] = field(default_factory=dict)
    _tokens: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def account(self, email: str = "engine@project.iam.gserviceaccount.com") -> Json:
        """A new service account: the JSON of its key."""
        key = rsa.generate_private_key(65537, 2048)
        self._accounts[email] = key.public_key()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "client_email": email,
            "private_key_id": "1",
            "private_key": pem.decode(),
            "token_uri": f"{self.url}/token",
        }

    def issue(self) -> str:
        """A token."""
        token = secrets.token_urlsafe(24)
        self._tokens.add(token)
        return token

    def encrypt(self, resource: str, plain: bytes) -> str:
        """What SOPS keeps of a data key."""
        return base64.b64encode(self.keys.setdefault(resource, Sealed()).seal(plain)).decode()

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/token", self._token)
        app.router.add_post("/v1/{resource:projects/.+}:decrypt", self._decrypt)
        return app

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: values[0] for name, values in parse_qs(await request.text()).items()}
        try:
            if form["grant_type"] != JWT_BEARER:
                raise Refused("unsupported grant")
            issuer = json.loads(unpadded(form["assertion"].split(".")[1]))["iss"]
            claims = Assertion(form["assertion"]).claims(self._accounts[issuer])
            if claims["aud"] != f"{self.url}/token" or "cloudkms" not in claims["scope"]:
                raise Refused("wrong audience or scope")
        except (Refused, KeyError, ValueError, IndexError) as error:
            return web.json_response({"error": "invalid_grant", "error_description": str(error)}, status=400)
        return web.json_response({"access_token": self.issue(), "token_type": "Bearer", "expires_in": 3600})

    async def _decrypt(self, request: web.Request) -> web.Response:
        if bearer(request) not in self._tokens:
            return _gcp_error(401, "UNAUTHENTICATED")
        asked = await request.json()
        try:
            plain = self.keys[request.match_info["resource"]].open(base64.b64decode(asked["ciphertext"]))
        except (Refused, KeyError, binascii.Error):
            return _gcp_error(403, "PERMISSION_DENIED")
        return web.json_response({"plaintext": base64.b64encode(plain).decode(), "usedPrimary": True})


def _gcp_error(code: int, status: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": status, "status": status}}, status=code)


# -- Vault -------------------------------------------------------------------------------------------------------------

Reviewer = Callable[[str, str], Awaitable[str]]
"""Whose a token is, for an audience; raises Refused."""


@dataclass
class Vault:
    """The transit engine of Vault or OpenBao, and logins of service accounts at auth/kubernetes."""

    port: int = 0
    tokens: set[str] = field(default_factory=set)
    roles: dict[str, str] = field(default_factory=dict)
    """Who may log in as which role, as `system:serviceaccount:...`."""
    reviewer: Reviewer | None = None
    keys: dict[str, Sealed] = field(default_factory=dict)
    logins: list[str] = field(default_factory=list)
    """Roles that were logged in as."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def encrypt(self, name: str, plain: bytes) -> str:
        """What SOPS keeps of a data key."""
        sealed = self.keys.setdefault(name, Sealed()).seal(base64.b64encode(plain))
        return f"vault:v1:{base64.b64encode(sealed).decode()}"

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_put("/v1/transit/decrypt/{name}", self._decrypt)
        app.router.add_put("/v1/auth/kubernetes/login", self._login)
        return app

    async def _decrypt(self, request: web.Request) -> web.Response:
        if request.headers.get("X-Vault-Token", "") not in self.tokens:
            return web.json_response({"errors": ["permission denied"]}, status=403)
        asked = await request.json()
        try:
            sealed = base64.b64decode(str(asked["ciphertext"]).removeprefix("vault:v1:"))
            plain = self.keys[request.match_info["name"]].open(sealed)
        except (Refused, KeyError, binascii.Error):
            return web.json_response({"errors": ["invalid ciphertext"]}, status=400)
        return web.json_response({"data": {"plaintext": plain.decode()}})

    async def _login(self, request: web.Request) -> web.Response:
        asked = await request.json()
        try:
            assert self.reviewer is not None
            who = await self.reviewer(asked["jwt"], self.url)
            if self.roles.get(asked["role"]) != who:
                raise Refused(f"{who} may not be {asked['role']}")
        except (Refused, KeyError) as error:
            return web.json_response({"errors": [str(error)]}, status=403)
        token = f"hvs.{secrets.token_urlsafe(24)}"
        self.tokens.add(token)
        self.logins.append(asked["role"])
        return web.json_response({"auth": {"client_token": token, "lease_duration": 3600}})
