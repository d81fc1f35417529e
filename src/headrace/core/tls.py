"""TLS contexts for remotes: the system's CAs and those of a Secret, TLS 1.2 or newer, verification always on."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path

from headrace.core.egress import Trust


def context(trust: Trust) -> ssl.SSLContext:
    """A client context. Raises ValueError when the PEM data is of no use."""
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if trust.ca:
            made.load_verify_locations(cadata=trust.ca.decode("ascii"))
        if trust.certificate:
            _load_pair(made, trust)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"cannot use the TLS data: {error}") from None
    return made


def _load_pair(made: ssl.SSLContext, trust: Trust) -> None:
    """OpenSSL takes certificates from files only: a private one, gone at once."""
    with tempfile.TemporaryDirectory(prefix="headrace-tls-") as folder:
        pair = Path(folder) / "pair.pem"
        descriptor = os.open(pair, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(trust.certificate + b"\n" + trust.key)
        made.load_cert_chain(pair)


def system_bundle() -> bytes:
    """The CAs of the system as one PEM, for programs that take a single file."""
    paths = ssl.get_default_verify_paths()
    candidates = (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
    for name in candidates:
        if name and Path(name).is_file():
            return Path(name).read_bytes()
    return b""


def unverified_context() -> ssl.SSLContext:
    """A client context that takes any certificate: only for what a spec calls insecure itself (SRC-OCI-19)."""
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made
