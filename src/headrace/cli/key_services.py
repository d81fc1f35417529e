"""How key services of SOPS may be called, from the settings."""

from __future__ import annotations

from headrace.core.egress import EgressPolicy, UrlRefused, parse_url
from headrace.settings import ApplySettings, SettingsError
from headrace.toolbox import KeyServices


def key_services(chosen: ApplySettings, policy: EgressPolicy) -> KeyServices:
    """Encrypted files name key services as sources name their servers, so the policy of sources holds for them too.
    The endpoints are the operator's own: their addresses are not looked at. Raises SettingsError."""
    endpoints = {
        "sops-aws-kms-endpoint": chosen.sops_aws_kms_endpoint, "sops-gcp-kms-endpoint": chosen.sops_gcp_kms_endpoint,
    }
    own = [_host(flag, url) for flag, url in endpoints.items() if url]
    return KeyServices(
        allow_loopback=policy.allow_loopback,
        allow_hosts=sorted({*policy.allow_hosts, *own}),
        deny_networks=[str(network) for network in policy.deny_networks],
        ca_file=chosen.sops_ca_file,
        aws_kms_endpoint=chosen.sops_aws_kms_endpoint,
        gcp_kms_endpoint=chosen.sops_gcp_kms_endpoint,
    )


def _host(flag: str, url: str) -> str:
    try:
        parsed = parse_url(url)
    except UrlRefused as error:
        raise SettingsError(f"{flag}: {error}") from None
    return f"[{parsed.host}]:{parsed.port}" if ":" in parsed.host else f"{parsed.host}:{parsed.port}"
