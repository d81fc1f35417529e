"""The commands `create source` and `export source`, with the flags of the flux command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headrace.cli.exits import USAGE, CommandError
from headrace.cli.parameters import Context, Kubeconfig, Namespace, Timeout, do, target_of

create_app = typer.Typer(no_args_is_help=True, help="Make objects, or print them with --export.")
export_app = typer.Typer(no_args_is_help=True, help="Print objects as YAML.")
_create_source = typer.Typer(no_args_is_help=True, help="Make a source.")
create_app.add_typer(_create_source, name="source")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the object.")]
Interval = Annotated[str, typer.Option("--interval", help="How often the source is polled.")]
Export = Annotated[bool, typer.Option("--export", help="Print the object as YAML instead of applying it.")]
Label = Annotated[list[str] | None, typer.Option("--label", help="Labels of the object, as KEY=VALUE.")]
Secret = Annotated[str, typer.Option("--secret-ref", help="Secret with credentials.")]
CertSecret = Annotated[str, typer.Option("--cert-secret-ref", help="Secret with TLS certificates.")]
ProxySecret = Annotated[str, typer.Option("--proxy-secret-ref", help="Secret with the address of a proxy.")]
Ignore = Annotated[list[str] | None, typer.Option("--ignore-paths", help="Paths to leave out, as in .gitignore.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Plain HTTP, or TLS without verification.")]
Provider = Annotated[str, typer.Option("--provider", help="Where credentials come from.")]


@_create_source.command()
def git(
    name: Name,
    url: Annotated[str, typer.Option("--url", help="Address: http, https or ssh.")],
    branch: Annotated[str, typer.Option("--branch", help="Branch.")] = "",
    tag: Annotated[str, typer.Option("--tag", help="Tag.")] = "",
    tag_semver: Annotated[str, typer.Option("--tag-semver", help="Range of versions.")] = "",
    ref_name: Annotated[str, typer.Option("--ref-name", help="Full name of a ref.")] = "",
    commit: Annotated[str, typer.Option("--commit", help="Commit.")] = "",
    secret_ref: Secret = "",
    proxy_secret_ref: ProxySecret = "",
    provider: Provider = "",
    recurse_submodules: Annotated[bool, typer.Option("--recurse-submodules", help="Fetch submodules.")] = False,
    sparse_checkout_paths: Annotated[
        list[str] | None, typer.Option("--sparse-checkout-paths", help="Directories to keep.")
    ] = None,
    ignore_paths: Ignore = None,
    interval: Interval = "1m",
    label: Label = None,
    export: Export = False,
    namespace: Namespace = "flux-system",
    timeout: Timeout = "5m",  # type: ignore[assignment]
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Make a GitRepository."""
    ref = {"branch": branch, "tag": tag, "semver": tag_semver, "name": ref_name, "commit": commit}
    if not any(ref.values()):
        raise CommandError("git ref is required: --branch, --tag, --tag-semver, --ref-name or --commit", USAGE)
    spec = {
        "url": url, "interval": interval, "ref": ref, "secretRef": {"name": secret_ref},
        "proxySecretRef": {"name": proxy_secret_ref}, "provider": provider, "recurseSubmodules": recurse_submodules,
        "sparseCheckout": _listed(sparse_checkout_paths), "ignore": _ignored(ignore_paths),
    }  # fmt: skip
    _create("git", name, spec, label, export, timeout, target_of(kubeconfig, context, namespace))


@_create_source.command()
def oci(
    name: Name,
    url: Annotated[str, typer.Option("--url", help="Address: oci://registry/repository.")],
    tag: Annotated[str, typer.Option("--tag", help="Tag.")] = "",
    tag_semver: Annotated[str, typer.Option("--tag-semver", help="Range of versions.")] = "",
    digest: Annotated[str, typer.Option("--digest", help="Digest.")] = "",
    secret_ref: Secret = "",
    cert_secret_ref: CertSecret = "",
    proxy_secret_ref: ProxySecret = "",
    service_account: Annotated[str, typer.Option("--service-account", help="Account with pull secrets.")] = "",
    provider: Provider = "generic",
    insecure: Insecure = False,
    verify_provider: Annotated[str, typer.Option("--verify-provider", help="cosign or notation.")] = "",
    verify_secret_ref: Annotated[str, typer.Option("--verify-secret-ref", help="Secret with trusted keys.")] = "",
    ignore_paths: Ignore = None,
    interval: Interval = "1m",
    label: Label = None,
    export: Export = False,
    namespace: Namespace = "flux-system",
    timeout: Timeout = "5m",  # type: ignore[assignment]
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Make an OCIRepository."""
    if not (tag or tag_semver or digest):
        raise CommandError("--tag, --tag-semver or --digest is required", USAGE)
    verify = {"provider": verify_provider, "secretRef": {"name": verify_secret_ref}} if verify_provider else {}
    spec = {
        "url": url, "interval": interval, "ref": {"tag": tag, "semver": tag_semver, "digest": digest},
        "secretRef": {"name": secret_ref}, "certSecretRef": {"name": cert_secret_ref},
        "proxySecretRef": {"name": proxy_secret_ref}, "serviceAccountName": service_account, "provider": provider,
        "insecure": insecure, "verify": verify, "ignore": _ignored(ignore_paths),
    }  # fmt: skip
    _create("oci", name, spec, label, export, timeout, target_of(kubeconfig, context, namespace))


@_create_source.command()
def helm(
    name: Name,
    url: Annotated[str, typer.Option("--url", help="Address: http, https or oci.")],
    secret_ref: Secret = "",
    cert_secret_ref: CertSecret = "",
    pass_credentials: Annotated[
        bool, typer.Option("--pass-credentials", help="Send credentials to all hosts that the index names.")
    ] = False,
    oci_provider: Annotated[str, typer.Option("--oci-provider", help="Where a registry's credentials come from.")] = "",
    interval: Interval = "1m",
    label: Label = None,
    export: Export = False,
    namespace: Namespace = "flux-system",
    timeout: Timeout = "5m",  # type: ignore[assignment]
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Make a HelmRepository."""
    spec = {
        "url": url, "interval": interval, "type": "oci" if url.startswith("oci://") else "",
        "secretRef": {"name": secret_ref}, "certSecretRef": {"name": cert_secret_ref},
        "passCredentials": pass_credentials, "provider": oci_provider,
    }  # fmt: skip
    _create("helm", name, spec, label, export, timeout, target_of(kubeconfig, context, namespace))


@_create_source.command()
def bucket(
    name: Name,
    bucket_name: Annotated[str, typer.Option("--bucket-name", help="Name of the bucket.")],
    endpoint: Annotated[str, typer.Option("--endpoint", help="Host and port of the service.")],
    provider: Provider = "generic",
    region: Annotated[str, typer.Option("--region", help="Region of the bucket.")] = "",
    prefix: Annotated[str, typer.Option("--prefix", help="Beginning of the keys to fetch.")] = "",
    secret_ref: Secret = "",
    proxy_secret_ref: ProxySecret = "",
    insecure: Insecure = False,
    ignore_paths: Ignore = None,
    interval: Interval = "1m",
    label: Label = None,
    export: Export = False,
    namespace: Namespace = "flux-system",
    timeout: Timeout = "5m",  # type: ignore[assignment]
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Make a Bucket."""
    spec = {
        "bucketName": bucket_name, "endpoint": endpoint, "interval": interval, "provider": provider, "region": region,
        "prefix": prefix, "secretRef": {"name": secret_ref}, "proxySecretRef": {"name": proxy_secret_ref},
        "insecure": insecure, "ignore": _ignored(ignore_paths),
    }  # fmt: skip
    _create("bucket", name, spec, label, export, timeout, target_of(kubeconfig, context, namespace))


@_create_source.command()
def chart(
    name: Name,
    source: Annotated[str, typer.Option("--source", help="KIND/NAME: HelmRepository, GitRepository or Bucket.")],
    chart: Annotated[str, typer.Option("--chart", help="Name of the chart, or its path in the source.")],
    chart_version: Annotated[str, typer.Option("--chart-version", help="Range of versions.")] = "",
    reconcile_strategy: Annotated[
        str, typer.Option("--reconcile-strategy", help="ChartVersion or Revision.")
    ] = "ChartVersion",
    interval: Interval = "1m",
    label: Label = None,
    export: Export = False,
    namespace: Namespace = "flux-system",
    timeout: Timeout = "5m",  # type: ignore[assignment]
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Make a HelmChart."""
    kind, separator, named = source.partition("/")
    if not separator or not named:
        raise CommandError(f"--source: want KIND/NAME, not '{source}'", USAGE)
    spec = {
        "chart": chart, "version": chart_version, "interval": interval, "reconcileStrategy": reconcile_strategy,
        "sourceRef": {"kind": kind, "name": named},
    }  # fmt: skip
    _create("chart", name, spec, label, export, timeout, target_of(kubeconfig, context, namespace))


@export_app.command("source")
def export_source(
    kind: Annotated[str, typer.Argument(metavar="git|oci|helm|chart|bucket", help="Kind of the source.")],
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Name of the source.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All of the namespace.")] = False,
    namespace: Namespace = "flux-system",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print a source as YAML."""
    from headrace.cli.source_objects import export, kind_of

    do(export(target_of(kubeconfig, context, namespace), kind_of(kind), name, everything=everything))


def _create(
    word: str, name: str, spec: dict[str, Any], labels: list[str] | None, export: bool, timeout: float, target: Any
) -> None:
    from headrace.cli.source_objects import create, kind_of, source_object

    info = kind_of(word)
    content = source_object(info, target.namespace, name, spec, _labels(labels))
    do(create(target, info, content, export=export, timeout=timeout))


def _labels(given: list[str] | None) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in _listed(given):
        key, separator, value = text.partition("=")
        if not separator:
            raise CommandError(f"--label: want KEY=VALUE, not '{text}'", USAGE)
        labels[key] = value
    return labels


def _listed(given: list[str] | None) -> list[str]:
    """Values given one by one, or separated by commas, as flux takes them."""
    return [part for text in given or () for part in text.split(",") if part]


def _ignored(given: list[str] | None) -> str:
    return "\n".join(_listed(given))
