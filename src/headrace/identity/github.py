"""GitHub Apps: a key signs who the application is, and GitHub gives a token for one of its installations (2.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

import msgspec

from headrace.core.clock import Clock, parse_rfc3339
from headrace.core.egress import NO_TRUST, RemoteUrl, Trust, UrlRefused, parse_url
from headrace.core.jwt import load_rsa_key, sign_rs256
from headrace.identity.calls import Calls, Request, decoded
from headrace.identity.values import IdentityError, Token

T = TypeVar("T")

USER = "x-access-token"
API = "https://api.github.com"
SECRET_KEYS = (
    "githubAppID", "githubAppInstallationID", "githubAppInstallationOwner", "githubAppPrivateKey", "githubAppBaseURL",
)  # fmt: skip
_EARLIER_SECONDS = 30
_ASSERTION_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class GithubApp:
    """An application and its installation, by id or by owner, and the way to the API that knows it."""

    app: str
    key: bytes = field(repr=False)
    installation: str = ""
    owner: str = ""
    api: RemoteUrl
    trust: Trust = NO_TRUST
    proxy: RemoteUrl | None = None

    @property
    def identity(self) -> str:
        """Equal only for equal applications and installations."""
        parts = (self.app, self.installation, self.owner, self.api.text)
        return hashlib.sha256(b"\0".join((*(part.encode() for part in parts), self.key))).hexdigest()


def app_of(secret: Mapping[str, bytes], trust: Trust, proxy: RemoteUrl | None) -> GithubApp:
    """The application that a Secret describes. Raises ValueError saying which key is wrong (SRC-GIT-27)."""
    text = {key: secret.get(key, b"").decode("utf-8", "replace").strip() for key in SECRET_KEYS}
    app, owner, installation = (
        text[key] for key in ("githubAppID", "githubAppInstallationOwner", "githubAppInstallationID")
    )
    if not app.isdecimal():
        raise ValueError("app ID must be provided to use github app authentication")
    if not owner and not installation:
        raise ValueError("app installation owner or ID must be provided to use github app authentication")
    if owner and installation:
        raise ValueError("only one of app installation owner or ID must be provided to use github app authentication")
    if installation and not installation.isdecimal():
        raise ValueError("invalid secret: 'githubAppInstallationID' is not a number")
    if not text["githubAppPrivateKey"]:
        raise ValueError("private key must be provided to use github app authentication")
    try:
        api = parse_url(text["githubAppBaseURL"].rstrip("/") or API)
    except UrlRefused as error:
        raise ValueError(f"invalid API URL: {error}") from None
    key = secret["githubAppPrivateKey"]
    return GithubApp(app=app, key=key, installation=installation, owner=owner, api=api, trust=trust, proxy=proxy)


class _Installation(msgspec.Struct, frozen=True):
    id: int


class _Issued(msgspec.Struct, frozen=True):
    token: str
    expires_at: str


class Github:
    """The API of GitHub. All methods raise IdentityError."""

    def __init__(self, calls: Calls, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock

    async def token(self, app: GithubApp) -> Token:
        """A token of the installation. Raises ValueError for a key that cannot be read."""
        now = int(self._clock.now()) - _EARLIER_SECONDS
        claims = {"iat": now, "exp": now + _ASSERTION_SECONDS, "iss": app.app}
        headers = {
            "Authorization": f"Bearer {sign_rs256(claims, load_rsa_key(app.key))}",
            "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28",
        }  # fmt: skip
        installation = app.installation or await self._found(app, headers)
        what = "failed to create a token of the github app installation"
        found = await self._ask("POST", app, f"/app/installations/{installation}/access_tokens", headers, _Issued, what)
        return Token(found.token, parse_rfc3339(found.expires_at))

    async def _found(self, app: GithubApp, headers: Mapping[str, str]) -> str:
        """The installation of an owner: an organization, else a user."""
        owner = quote(app.owner, safe="")
        try:
            what = "failed to find organization installation"
            found = await self._ask("GET", app, f"/orgs/{owner}/installation", headers, _Installation, what)
        except IdentityError as first:
            try:
                what = "failed to find user installation"
                found = await self._ask("GET", app, f"/users/{owner}/installation", headers, _Installation, what)
            except IdentityError as second:
                raise IdentityError(f"{first}; {second}") from second
        return str(found.id)

    async def _ask(
        self, method: str, app: GithubApp, path: str, headers: Mapping[str, str], kind: type[T], what: str
    ) -> T:
        url = parse_url(f"{app.api.text.rstrip('/')}{path}")
        request = Request(method, url, headers)
        return decoded(await self._calls.foreign(request, what, proxy=app.proxy, trust=app.trust), kind, what)
