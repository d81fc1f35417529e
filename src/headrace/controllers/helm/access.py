"""With which identity a Helm repository is talked to: what the spec and the Secrets of a HelmRepository say.

Every Secret is read from the repository's own namespace, which is that of all charts that name it.
"""

from __future__ import annotations

from collections.abc import Mapping

from headrace.api.helmrepository import HelmRepositorySpec
from headrace.controllers.sources.secrets import (
    FETCH_FAILED,
    keys_part,
    not_configured,
    read_trust,
    secret_data,
)
from headrace.core import secrecy
from headrace.core.egress import NO_TRUST, Egress, UrlRefused, parse_url
from headrace.model.errors import Stalled
from headrace.model.scope import Scope
from headrace.source.access import TLS_KEYS, text_of, trust_of
from headrace.source.helm.repository import HelmCredentials, HelmRepositoryClient

URL_INVALID = "URLInvalid"
_BASIC = ("username", "password")
CREDENTIALS = keys_part("helm-credentials", (*_BASIC, *TLS_KEYS))


class HelmAccess:
    """Opens repositories; nothing is asked of them yet."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def open(self, spec: HelmRepositorySpec, namespace: str, scope: Scope) -> HelmRepositoryClient:
        """A repository over HTTP. Raises Stalled(URLInvalid), Retry(AuthenticationFailed)."""
        if spec.url.startswith("oci://"):
            text = "invalid Helm repository URL: 'oci' URL scheme cannot be used with 'default' HelmRepository type"
            raise Stalled(URL_INVALID, text, condition=FETCH_FAILED)
        try:
            url = parse_url(spec.url)
        except UrlRefused as error:
            raise Stalled(URL_INVALID, f"invalid Helm repository URL: {error}", condition=FETCH_FAILED) from error
        secrecy.register(url.password)
        return HelmRepositoryClient(url, await self._credentials(spec, namespace, scope), self._egress)

    async def _credentials(self, spec: HelmRepositorySpec, namespace: str, scope: Scope) -> HelmCredentials:
        trust = await read_trust(namespace, spec.cert_secret_ref, scope)
        if spec.secret_ref is None:
            return HelmCredentials(trust=trust or NO_TRUST, pass_credentials=spec.pass_credentials)
        data = await secret_data(namespace, spec.secret_ref.name, CREDENTIALS, scope)
        try:
            username, password = basic_of(data)
            inner = trust_of(data)
        except ValueError as error:
            raise not_configured(f"secret '{namespace}/{spec.secret_ref.name}': {error}") from error
        secrecy.register(password)
        return HelmCredentials(
            username=username, password=password, trust=trust or inner, pass_credentials=spec.pass_credentials
        )


def basic_of(data: Mapping[str, bytes]) -> tuple[str, str]:
    """User and password, both or none. Raises ValueError naming the half that is missing (SRC-HRP-06)."""
    username, password = text_of(data, "username"), text_of(data, "password")
    if bool(username) != bool(password):
        missing = "username" if password else "password"
        raise ValueError(f"invalid basic auth: '{missing}' is missing")
    return username, password
