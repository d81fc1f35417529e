"""TLS contexts from PEM data, without leaving a file behind."""

from __future__ import annotations

import os
import ssl

from headrace.kube.credentials import Material
from headrace.kube.errors import ConfigError


def ssl_context(material: Material, *, insecure: bool) -> ssl.SSLContext:
    """A client context for `material`. Without a CA the system's are trusted; `insecure` trusts anybody.

    Raises ConfigError when the PEM data is not usable; the data itself is never quoted.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif material.ca:
        _trust(context, material.ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if material.certificate:
        _identify(context, material)
    return context


def _trust(context: ssl.SSLContext, ca: bytes) -> None:
    try:
        context.load_verify_locations(cadata=ca.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError):
        raise ConfigError("the certificate authority data holds no certificate in PEM form") from None


def _identify(context: ssl.SSLContext, material: Material) -> None:
    """The ssl module reads certificates from files only: this one lives in memory and is gone afterwards."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(material.certificate + b"\n" + material.key + b"\n")
        # The password callback keeps OpenSSL from asking at the terminal for that of an encrypted key.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
    except (ssl.SSLError, ValueError):
        raise ConfigError("the client certificate and key are not a usable pair in PEM form") from None
    finally:
        os.close(descriptor)


def _no_password() -> str:
    raise ValueError("the client key is encrypted")
