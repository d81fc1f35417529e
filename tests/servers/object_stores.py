"""Google Cloud Storage and Azure Blob Storage on the loopback, as far as buckets speak to them: their documented REST
protocols over objects in memory. Credentials are checked; Azure's signatures are computed here again.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

PAGE = 2
"""Objects of one page, so that every listing has several."""


@dataclass
class ObjectStore:
    """The objects of one bucket `bucket`. `bearer`, `key` (of account `acct`) and `sas` are what opens it; any will do
    when none is set. `requests` are the paths with queries so far; `before_read` is called before content is given."""

    bucket: str = "things"
    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    bearer: str = ""
    key: bytes = b""
    sas: str = ""
    requests: list[str] = field(default_factory=list)
    before_read: Callable[[str], None] = lambda key: None

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def etag(self, key: str) -> str:
        return hashlib.sha1(self.objects[key]).hexdigest()[:16]

    # -- Google ----------------------------------------------------------------------------------------------------

    async def google_list(self, request: web.Request) -> web.Response:
        self.requests.append(request.path_qs)
        refused = self._google_refuses(request)
        if refused is not None:
            return refused
        prefix, token = request.query.get("prefix", ""), request.query.get("pageToken", "")
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > token)
        page: dict[str, object] = {"items": [self._item(key) for key in keys[:PAGE]]}
        if len(keys) > PAGE:
            page["nextPageToken"] = keys[PAGE - 1]
        return web.json_response(page)

    async def google_get(self, request: web.Request) -> web.Response:
        self.requests.append(request.path_qs)
        refused = self._google_refuses(request)
        if refused is not None:
            return refused
        key = unquote(request.raw_path.partition("?")[0].rpartition("/o/")[2])
        if request.query.get("alt") == "media":
            self.before_read(key)
        if key not in self.objects:
            return web.json_response({"error": {"message": "No such object"}}, status=404)
        if request.query.get("alt") != "media":
            return web.json_response(self._item(key))
        if request.query.get("generation", self._generation(key)) != self._generation(key):
            return web.json_response({"error": {"message": "No such object"}}, status=404)
        return web.Response(body=self.objects[key], headers={"ETag": "another-form"})

    def _google_refuses(self, request: web.Request) -> web.Response | None:
        if self.bearer and request.headers.get("Authorization") != f"Bearer {self.bearer}":
            return web.json_response({"error": {"message": "Invalid Credentials"}}, status=401)
        if request.match_info["bucket"] != self.bucket:
            return web.json_response({"error": {"message": "The specified bucket does not exist."}}, status=404)
        return None

    def _item(self, key: str) -> dict[str, str]:
        size = str(len(self.objects[key]))
        return {"name": key, "etag": self.etag(key), "size": size, "generation": self._generation(key)}

    def _generation(self, key: str) -> str:
        return str(int(self.etag(key), 16))

    # -- Azure -----------------------------------------------------------------------------------------------------

    async def azure(self, request: web.Request) -> web.Response:
        self.requests.append(request.path_qs)
        if not self._azure_admits(request):
            return self._azure_error(403, "AuthenticationFailed")
        path = unquote(request.raw_path.partition("?")[0]).removeprefix("/acct")
        _, container, *rest = path.split("/", 2)
        if container != self.bucket:
            return self._azure_error(404, "ContainerNotFound")
        if request.query.get("comp") == "list":
            return self._azure_page(request)
        key = rest[0] if rest else ""
        self.before_read(key)
        if key not in self.objects:
            return self._azure_error(404, "BlobNotFound")
        return web.Response(body=self.objects[key], headers={"ETag": f'"{self.etag(key)}"'})

    def _azure_page(self, request: web.Request) -> web.Response:
        prefix, marker = request.query.get("prefix", ""), request.query.get("marker", "")
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > marker)
        blobs = "".join(
            f"<Blob><Name>{escape(key)}</Name><Properties><Etag>{self.etag(key)}</Etag>"
            f"<Content-Length>{len(self.objects[key])}</Content-Length></Properties></Blob>"
            for key in keys[:PAGE]
        )
        following = escape(keys[PAGE - 1]) if len(keys) > PAGE else ""
        text = (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>{blobs}</Blobs>'
            f"<NextMarker>{following}</NextMarker></EnumerationResults>"
        )
        return web.Response(body=text.encode(), content_type="application/xml")

    def _azure_admits(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        if self.bearer:
            return given == f"Bearer {self.bearer}"
        if self.key:
            return given == f"SharedKey acct:{self._azure_signature(request)}"
        return not self.sas or request.query.get("sig") == self.sas

    def _azure_signature(self, request: web.Request) -> str:
        own = sorted((name.lower(), value) for name, value in request.headers.items() if name.lower()[:5] == "x-ms-")
        headers = "".join(f"{name}:{value}\n" for name, value in own)
        query = "".join(f"\n{name.lower()}:{value}" for name, value in sorted(request.query.items()))
        signed = "GET" + "\n" * 12 + headers + "/acct" + request.raw_path.partition("?")[0] + query
        return base64.b64encode(hmac.new(self.key, signed.encode(), "sha256").digest()).decode()

    def _azure_error(self, status: int, code: str) -> web.Response:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
        return web.Response(status=status, body=body.encode(), headers={"x-ms-error-code": code})


@contextlib.asynccontextmanager
async def object_store() -> AsyncIterator[ObjectStore]:
    """Serve both protocols on one free port of the loopback."""
    made = ObjectStore()
    application = web.Application()
    application.router.add_get("/storage/v1/b/{bucket}/o", made.google_list)
    application.router.add_get("/storage/v1/b/{bucket}/o/{key:.*}", made.google_get)
    application.router.add_get("/{path:.*}", made.azure)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
