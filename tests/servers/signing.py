"""Signatures of artifacts for tests, made after the formats: cosign by key and by identity, and Notary Project's."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_HOUR = datetime.timedelta(hours=1)
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_SCTS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
STATEMENT = "application/vnd.in-toto+json"
SIGN = "https://sigstore.dev/cosign/sign/v1"

PrivateKey = ec.EllipticCurvePrivateKey


def new_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _spki(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(key: PrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _canonical(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def simple_signing(digest: str, reference: str = "registry.example/app") -> bytes:
    """What cosign's older form signs."""
    critical = {"identity": {"docker-reference": reference}, "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature"}  # fmt: skip
    return json.dumps({"critical": critical, "optional": None}).encode()


def keyed_annotations(key: PrivateKey, payload: bytes) -> dict[str, str]:
    """The annotations of a layer with such a payload."""
    return {"dev.cosignproject.cosign/signature": b64(sign(key, payload))}


def statement(digest: str, predicate_type: str = SIGN) -> bytes:
    algorithm, _, value = digest.partition(":")
    return json.dumps({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {algorithm: value}}],
                       "predicateType": predicate_type, "predicate": {}}).encode()  # fmt: skip


def envelope(key: PrivateKey, payload: bytes) -> dict[str, Any]:
    """A DSSE envelope around a statement."""
    kind = STATEMENT.encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    return {"payload": b64(payload), "payloadType": STATEMENT, "signatures": [{"sig": b64(sign(key, signed))}]}


def keyed_bundle(key: PrivateKey, payload: bytes) -> bytes:
    """cosign's newer form by a key, without a log."""
    bundle = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
              "verificationMaterial": {"publicKey": {"hint": "x"}}, "dsseEnvelope": envelope(key, payload)}  # fmt: skip
    return json.dumps(bundle).encode()


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, signer: PrivateKey,
    extensions: list[tuple[x509.ExtensionType, bool]], *, serial: int = 0, valid: datetime.timedelta = _HOUR,
) -> x509.Certificate:  # fmt: skip
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(serial or x509.random_serial_number())
    builder = builder.not_valid_before(now - valid).not_valid_after(now + valid)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


def _usage(**used: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: used.get(name, False) for name in names})


def _name(common: str) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
        x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "BE"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tests"),
        x509.NameAttribute(NameOID.COMMON_NAME, common),
    ])  # fmt: skip


@dataclass
class SigningAuthority:
    """A CA for signing certificates."""

    name: str = "authority"
    key: PrivateKey = field(default_factory=new_key)

    def __post_init__(self) -> None:
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_usage(key_cert_sign=True, crl_sign=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False),
        ]
        name = _name(self.name)
        self.certificate = _certificate(name, name, self.key.public_key(), self.key, extensions, valid=10 * _HOUR)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def issue(
        self, key: PrivateKey, more: list[tuple[x509.ExtensionType, bool]], *, serial: int = 0, name: str = "signer"
    ) -> x509.Certificate:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (_usage(digital_signature=True), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (identifier, False),
            *more,
        ]
        return _certificate(
            _name(name), self.certificate.subject, key.public_key(), self.key, extensions, serial=serial
        )


# -- Sigstore ----------------------------------------------------------------------------------------------------------


@dataclass
class Sigstore:
    """An instance of one's own: an authority, a log of certificates, a log of signatures."""

    authority: SigningAuthority = field(default_factory=SigningAuthority)
    certificate_log: PrivateKey = field(default_factory=new_key)
    signature_log: PrivateKey = field(default_factory=new_key)

    def trusted_root(self) -> bytes:
        """`trusted_root.json` of the instance."""
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self._log(self.signature_log, "https://rekor.example")],
            "ctlogs": [self._log(self.certificate_log, "https://ct.example")],
            "certificateAuthorities": [{
                "subject": {"organization": "tests", "commonName": "authority"},
                "uri": "https://fulcio.example",
                "certChain": {"certificates": [{"rawBytes": b64(self.authority.der)}]},
                "validFor": {"start": "2020-01-01T00:00:00Z"},
            }],
        }  # fmt: skip
        return json.dumps(root).encode()

    def _log(self, key: PrivateKey, url: str) -> dict[str, Any]:
        return {
            "baseUrl": url, "hashAlgorithm": "SHA2_256",
            "publicKey": {"rawBytes": b64(_spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                          "validFor": {"start": "2020-01-01T00:00:00Z"}},
            "logId": {"keyId": b64(hashlib.sha256(_spki(key)).digest())},
        }  # fmt: skip

    def certificate(self, key: PrivateKey, subject: str, issuer: str) -> x509.Certificate:
        """A certificate for an identity, with the proof that it was logged."""
        identity: x509.GeneralName = (
            x509.RFC822Name(subject) if "@" in subject and "//" not in subject
            else x509.UniformResourceIdentifier(subject)
        )  # fmt: skip
        told = issuer.encode()
        more: list[tuple[x509.ExtensionType, bool]] = [
            (x509.SubjectAlternativeName([identity]), True),
            (x509.UnrecognizedExtension(_ISSUER, b"\x0c" + bytes([len(told)]) + told), False),
        ]
        serial = x509.random_serial_number()
        bare = self.authority.issue(key, more, serial=serial)
        proof = x509.UnrecognizedExtension(_SCTS, self._proof(bare.tbs_certificate_bytes))
        return self.authority.issue(key, [*more, (proof, False)], serial=serial)

    def _proof(self, certificate: bytes) -> bytes:
        """A signed certificate timestamp in its list (RFC 6962)."""
        when = int(time.time() * 1000).to_bytes(8, "big")
        issuer = hashlib.sha256(_spki(self.authority.key)).digest()
        signed = b"\0\0" + when + b"\0\1" + issuer + len(certificate).to_bytes(3, "big") + certificate + b"\0\0"
        signature = sign(self.certificate_log, signed)
        log = hashlib.sha256(_spki(self.certificate_log)).digest()
        one = b"\0" + log + when + b"\0\0" + b"\4\3" + len(signature).to_bytes(2, "big") + signature
        listed = (len(one) + 2).to_bytes(2, "big") + len(one).to_bytes(2, "big") + one
        return b"\4" + (b"\x81" if len(listed) > 127 else b"") + bytes([len(listed)]) + listed

    def annotations(self, payload: bytes, subject: str, issuer: str) -> dict[str, str]:
        """The annotations of a layer that cosign's older form makes of a payload, signed by an identity."""
        key = new_key()
        certificate = self.certificate(key, subject, issuer).public_bytes(serialization.Encoding.PEM)
        signature = sign(key, payload)
        return {
            "dev.cosignproject.cosign/signature": b64(signature),
            "dev.sigstore.cosign/certificate": certificate.decode(),
            "dev.sigstore.cosign/chain": self.authority.pem.decode(),
            "dev.sigstore.cosign/bundle": json.dumps(self._promise(payload, signature, certificate)),
        }

    def _promise(self, payload: bytes, signature: bytes, certificate: bytes) -> dict[str, Any]:
        """That the log has the signature."""
        body = _canonical({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}},
            "signature": {"content": b64(signature), "publicKey": {"content": b64(certificate)}}}})  # fmt: skip
        entry = {"body": b64(body), "integratedTime": int(time.time()), "logIndex": 7,
                 "logID": hashlib.sha256(_spki(self.signature_log)).hexdigest()}  # fmt: skip
        return {"SignedEntryTimestamp": b64(sign(self.signature_log, _canonical(entry))), "Payload": entry}

    def bundle(self, payload: bytes, subject: str, issuer: str) -> bytes:
        """cosign's newer form: a statement signed by an identity, with the proof that the log has it."""
        key = new_key()
        certificate = self.certificate(key, subject, issuer)
        signed = envelope(key, payload)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        body = _canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
            "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(_canonical(signed)).hexdigest()},
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
            "signatures": [{"signature": signed["signatures"][0]["sig"], "verifier": b64(pem)}]}})  # fmt: skip
        material = {
            "certificate": {"rawBytes": b64(certificate.public_bytes(serialization.Encoding.DER))},
            "tlogEntries": [self._entry(body)],
        }
        return json.dumps({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                           "verificationMaterial": material, "dsseEnvelope": signed}).encode()  # fmt: skip

    def _entry(self, body: bytes) -> dict[str, Any]:
        """The entry of a log that holds nothing else."""
        identifier = hashlib.sha256(_spki(self.signature_log)).digest()
        leaf = hashlib.sha256(b"\0" + body).digest()
        when = int(time.time())
        promised = {"body": b64(body), "integratedTime": when, "logIndex": 0, "logID": identifier.hex()}
        note = f"rekor.example - 1193050959916656506\n1\n{b64(leaf)}\n"
        checkpoint = f"{note}\n\u2014 rekor.example {b64(identifier[:4] + sign(self.signature_log, note.encode()))}\n"
        return {
            "logIndex": "0", "logId": {"keyId": b64(identifier)}, "integratedTime": str(when),
            "kindVersion": {"kind": "dsse", "version": "0.0.1"}, "canonicalizedBody": b64(body),
            "inclusionPromise": {"signedEntryTimestamp": b64(sign(self.signature_log, _canonical(promised)))},
            "inclusionProof": {"logIndex": "0", "rootHash": b64(leaf), "treeSize": "1", "hashes": [],
                               "checkpoint": {"envelope": checkpoint}},
        }  # fmt: skip


# -- the Notary project ------------------------------------------------------------------------------------------------


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def notation_envelope(
    authority: SigningAuthority, media_type: str, digest: str, size: int, *, name: str = "signer"
) -> bytes:
    """A JWS of the Notary project for an artifact."""
    key = new_key()
    certificate = authority.issue(key, [(x509.BasicConstraints(ca=False, path_length=None), True)], name=name)
    payload = json.dumps({"targetArtifact": {"mediaType": media_type, "digest": digest, "size": size}}).encode()
    protected = json.dumps({
        "alg": "ES256", "crit": ["io.cncf.notary.signingScheme"], "cty": "application/vnd.cncf.notary.payload.v1+json",
        "io.cncf.notary.signingScheme": "notary.x509",
        "io.cncf.notary.signingTime": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }).encode()  # fmt: skip
    signed = f"{_segment(protected)}.{_segment(payload)}".encode()
    r, s = decode_dss_signature(sign(key, signed))
    chain = [b64(one.public_bytes(serialization.Encoding.DER)) for one in (certificate, authority.certificate)]
    return json.dumps({
        "payload": _segment(payload), "protected": _segment(protected),
        "header": {"x5c": chain, "io.cncf.notary.signingAgent": "tests"},
        "signature": _segment(r.to_bytes(32, "big") + s.to_bytes(32, "big")),
    }).encode()  # fmt: skip


def trust_policy(level: str = "strict", *, scopes: tuple[str, ...] = ("*",), **override: str) -> bytes:
    """A trust policy for all certificates of the Secret."""
    verification: dict[str, Any] = {"level": level}
    if override:
        verification["override"] = override
    statement = {"name": "tests", "registryScopes": list(scopes), "signatureVerification": verification,
                 "trustStores": ["ca:tests"], "trustedIdentities": ["*"]}  # fmt: skip
    return json.dumps({"version": "1.0", "trustPolicies": [statement]}).encode()
