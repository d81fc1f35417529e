"""Signatures of the Notary project: found by what refers to an artifact, verified by its own library in the toolbox."""

from __future__ import annotations

from headrace.source.oci.manifest import Descriptor
from headrace.source.oci.registry import Registry
from headrace.source.oci.remotes import Source
from headrace.toolbox.messages import SignatureEnvelope

TRUST_POLICY = "trustpolicy.json"
CERTIFICATES = (".crt", ".pem")
SIGNATURE = "application/vnd.cncf.notary.signature"
_ENVELOPES = ("application/jose+json", "application/cose")
_MOST = 3
"""Signatures of one artifact that are looked at, as upstream."""
_ENVELOPE_BYTES = 4 * 1024 * 1024


async def find_envelopes(
    registry: Registry, source: Source, digest: str, *, timeout: float
) -> list[SignatureEnvelope]:
    """The signatures beside an artifact. Raises OciError."""
    listed = await registry.referrers(
        source.repository, digest, source.access, timeout=timeout, artifact_type=SIGNATURE
    )
    found: list[SignatureEnvelope] = []
    for referrer in listed[:_MOST]:
        layer = await _layer(registry, source, referrer, timeout)
        if layer is not None:
            content = await registry.blob_bytes(
                source.repository, layer, source.access, timeout=timeout, limit=_ENVELOPE_BYTES
            )
            found.append(SignatureEnvelope(layer.media_type, content))
    return found


async def _layer(registry: Registry, source: Source, referrer: Descriptor, timeout: float) -> Descriptor | None:
    """The one layer of a signature's manifest, if it is a signature at all."""
    manifest = await registry.image(source.repository, referrer.digest, source.access, timeout=timeout)
    layers = manifest.layers or ()
    return layers[0] if len(layers) == 1 and layers[0].media_type in _ENVELOPES else None
