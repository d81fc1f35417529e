"""The commands: what they are called and which options they have. What they do is imported when they are called, so
that `headrace --help` and shell completion stay fast."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli import flags
from headrace.cli.artifact import commands as artifact
from headrace.cli.artifact.commands import list_app, pull_app, push_app, tag_app
from headrace.cli.exits import FAILED, INTERRUPTED, OK, CommandError
from headrace.cli.output import Format, failure
from headrace.cli.parameters import AllNamespaces, Context, Kubeconfig, Namespace, Timeout, do, target_of
from headrace.cli.source_commands import create_app, export_app

app = typer.Typer(
    name="headrace",
    help="Deliver Flux sources to Kubernetes clusters; locally with `headrace up`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 no cluster, 4 not found, 5 timed out, 6 refused, 130 interrupted.",
)

Output = Annotated[Format, typer.Option("--output", "-o", help="Form of the output.")]
Words = Annotated[list[str] | None, typer.Argument(metavar="[KIND [NAME]]...", help="ks, source git, KIND/NAME, all.")]
Word = Annotated[list[str], typer.Argument(metavar="KIND NAME", help="KIND NAME or KIND/NAME.")]
KsName = Annotated[list[str], typer.Argument(metavar="kustomization NAME", help="ks NAME or ks/NAME.")]
KsFile = Annotated[
    Path | None,
    typer.Option("--kustomization-file", help="File with the Kustomization, which goes before the cluster's."),
]
LocalPath = Annotated[
    Path | None,
    typer.Option("--path", help="Local directory that matches spec.path. Default: the source's current artifact."),
]

app.add_typer(create_app, name="create")
app.add_typer(export_app, name="export")
app.add_typer(push_app, name="push")
app.add_typer(pull_app, name="pull")
app.add_typer(tag_app, name="tag")
app.add_typer(list_app, name="list")


def run(argv: Sequence[str]) -> int:
    """Run a command line and return its exit code; errors of commands are one line on stderr."""
    try:
        code = app(args=flags.normalise(argv), standalone_mode=False)
    except CommandError as error:
        failure(error.message)
        return error.code
    except typer.Exit as exited:
        return exited.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - raised again unless it is one of the parser's
        return _usage_error(error)
    return code if isinstance(code, int) else OK


def _usage_error(error: Exception) -> int:
    """Show what is wrong with the command line. Raises what is a bug."""
    show = getattr(error, "show", None)
    if show is None:
        raise error
    show()
    code: int = getattr(error, "exit_code", FAILED)
    return code


@app.command()
def up(
    source: Annotated[str, typer.Argument(metavar="[DIR|GIT-URL]", help="What to deliver.")] = ".",
    path: Annotated[str, typer.Option("--path", help="Directory in it that the root Kustomization delivers.")] = "./",
    branch: Annotated[str, typer.Option("--branch", help="Branch of a git URL.")] = "main",
    interval: Annotated[str, typer.Option("--interval", help="Interval of the objects that are made.")] = "10m",
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="A cluster of its own that is gone at the end.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="End when everything is Ready (0) or failed (1).")] = False,
    timeout: Timeout = "10m",  # type: ignore[assignment]
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the engine's log.")] = False,
) -> None:
    """Deliver a directory or a git repository to the embedded cluster, and keep delivering what is saved."""
    from headrace.cli.up import UpOptions, up

    do(up(UpOptions(source=source, path=path, branch=branch, interval=interval, ephemeral=ephemeral, once=once,
                     timeout=timeout, verbose=verbose)))  # fmt: skip


@app.command()
def down(
    delete: Annotated[
        bool, typer.Option("--delete", help="Also remove its data: objects, artifacts, repositories.")
    ] = False,
) -> None:
    """Stop the embedded cluster, and the `headrace up` that serves it."""
    from headrace.cli.down import down

    do(down(delete=delete))


@app.command()
@flags.all_settings
def run_(
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file with settings, by flag name.")] = None,
    **settings: str,
) -> None:
    """Run the engine against a cluster, in the foreground. Settings also come from HEADRACE_<FLAG>."""
    from headrace.cli.run import run

    do(run(kubeconfig, context, config, settings))


@app.command()
def get(
    words: Words = None,
    namespace: Namespace = "flux-system",
    everywhere: AllNamespaces = False,
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List objects with revision, readiness and message."""
    from headrace.cli.get import get

    do(get(target_of(kubeconfig, context, namespace, everywhere), words or [], output))


@app.command()
def reconcile(
    words: Word,
    with_source: Annotated[bool, typer.Option("--with-source", help="Its source first.")] = False,
    namespace: Namespace = "flux-system",
    timeout: Timeout = "5m",  # type: ignore[assignment]
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Ask for a run now and wait until it has ended."""
    from headrace.cli.reconcile import reconcile

    do(reconcile(target_of(kubeconfig, context, namespace), words, with_source=with_source, timeout=timeout))


@app.command()
def suspend(
    words: Word, namespace: Namespace = "flux-system", kubeconfig: Kubeconfig = None, context: Context = None
) -> None:
    """Stop reconciling an object until it is resumed."""
    from headrace.cli.reconcile import suspend

    do(suspend(target_of(kubeconfig, context, namespace), words))


@app.command()
def resume(
    words: Word,
    namespace: Namespace = "flux-system",
    timeout: Timeout = "5m",  # type: ignore[assignment]
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Go on reconciling a suspended object and wait until it is Ready."""
    from headrace.cli.reconcile import resume

    do(resume(target_of(kubeconfig, context, namespace), words, timeout=timeout))


@app.command()
def tree(
    words: Word,
    namespace: Namespace = "flux-system",
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show what a Kustomization has applied, nested ones included."""
    from headrace.cli.tree import tree

    do(tree(target_of(kubeconfig, context, namespace), words, output))


@app.command()
def explain(
    words: Annotated[list[str], typer.Argument(metavar="OBJECT", help="KIND NAME, KIND/NAME, KIND/NAMESPACE/NAME.")],
    namespace: Namespace = "flux-system",
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Say why an object is not Ready, since when, and the one thing that unblocks it."""
    from headrace.cli.explain.command import explain

    do(explain(target_of(kubeconfig, context, namespace), words, output))


@app.command()
def trace(
    words: Annotated[list[str], typer.Argument(metavar="OBJECT", help="KIND NAME, KIND/NAME, KIND/NAMESPACE/NAME.")],
    namespace: Namespace = "flux-system",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Say what delivers an object, from which source, at which revision."""
    from headrace.cli.trace import trace

    do(trace(target_of(kubeconfig, context, namespace), words))


@app.command()
def build(
    words: KsName,
    path: Annotated[Path, typer.Option("--path", help="Local directory that matches spec.path.")],
    file: KsFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask no cluster; variables of ConfigMaps and Secrets are left out.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict-substitute", help="A variable that is neither set nor defaulted is an error.")
    ] = False,
    namespace: Namespace = "flux-system",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print the manifests that would be applied, from local files."""
    from headrace.cli.build import BuildOptions, build
    from headrace.cli.kinds import kustomization_name

    options = BuildOptions(path=path, file=file, dry_run=dry_run, strict=strict)
    do(build(target_of(kubeconfig, context, namespace), kustomization_name(words), options))


@app.command()
def diff(
    words: Annotated[
        list[str],
        typer.Argument(metavar="kustomization NAME | artifact URL", help="ks NAME, ks/NAME, artifact oci://..."),
    ],
    path: LocalPath = None,
    file: KsFile = None,
    ignore_paths: artifact.IgnorePaths = None,
    creds: artifact.Creds = "",
    provider: artifact.ProviderOption = artifact.Provider.GENERIC,
    insecure: artifact.Insecure = False,
    timeout: Timeout = "5m",  # type: ignore[assignment]
    namespace: Namespace = "flux-system",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show what a delivery would change, field by field; or how local files differ from an artifact of a registry.
    Exit codes: 0 nothing, 1 something, more: it failed."""
    if words[0] == "artifact":
        do(artifact.diff(words[1:], path, ignore_paths, artifact.login_of(creds, provider, insecure, timeout)))
    from headrace.cli.diff import diff
    from headrace.cli.kinds import kustomization_name

    do(diff(target_of(kubeconfig, context, namespace), kustomization_name(words), path, file))


@app.command()
def plan(
    words: KsName,
    path: LocalPath = None,
    file: KsFile = None,
    namespace: Namespace = "flux-system",
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show what the next delivery would do with each object, and why. Writes nothing."""
    from headrace.cli.kinds import kustomization_name
    from headrace.cli.plan import plan

    do(plan(target_of(kubeconfig, context, namespace), kustomization_name(words), path, file, output))


@app.command()
def adopt(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Required: tell, and write nothing.")] = False,
    namespace: Namespace = "flux-system",
    everywhere: AllNamespaces = False,
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show what would differ if headrace took over what Flux's kustomize-controller has delivered."""
    from headrace.cli.adopt import adopt

    do(adopt(target_of(kubeconfig, context, namespace, everywhere), output, dry_run=dry_run))


@app.command()
def install(
    namespace: Namespace = "flux-system",
    export: Annotated[bool, typer.Option("--export", help="Print the manifests instead of applying them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Have the API server check them only.")] = False,
    image: Annotated[
        str | None, typer.Option("--image", help="Container image, as deploy/Dockerfile makes it.")
    ] = None,
    replicas: Annotated[int, typer.Option("--replicas", help="Replicas; one leads, the others wait.")] = 1,
    cluster_admin: Annotated[
        bool,
        typer.Option("--cluster-admin", help="Deliver with all rights where no serviceAccountName is set, as Flux."),
    ] = False,
    default_service_account: Annotated[
        str, typer.Option("--default-service-account", help="Account for objects that name none.")
    ] = "",
    tenancy: Annotated[
        str, typer.Option("--tenancy", help="`strict`: separates tenants, with roles and admission policies.")
    ] = "flux",
    storage: Annotated[
        str, typer.Option("--storage", help="Size of a volume for artifacts, as 5Gi. Default: emptyDir.")
    ] = "",
    argument: Annotated[list[str] | None, typer.Option("--arg", help="Further argument of `headrace run`.")] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Install the CRDs and the engine in a cluster, with the least permissions."""
    from headrace.cli.install import install
    from headrace.cli.manifests import InstallOptions

    chosen = {"image": image} if image else {}
    options = InstallOptions(
        namespace=namespace, replicas=replicas, cluster_admin=cluster_admin, storage=storage,
        default_service_account=default_service_account, tenancy=tenancy, arguments=tuple(argument or ()), **chosen,
    )  # fmt: skip
    do(install(target_of(kubeconfig, context, namespace), options, export=export, dry_run=dry_run))


@app.command()
def uninstall(
    namespace: Namespace = "flux-system",
    keep_crds: Annotated[bool, typer.Option("--keep-crds", help="Leave the CRDs and all objects of them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Remove the engine from a cluster. What it has delivered stays."""
    from headrace.cli.install import uninstall

    if not yes and not typer.confirm("remove headrace, its CRDs and all objects of them; keep what was delivered?"):
        raise typer.Abort
    do(uninstall(target_of(kubeconfig, context, namespace), keep_crds=keep_crds))


@app.command()
def check(
    pre: Annotated[bool, typer.Option("--pre", help="Only what is needed before an installation.")] = False,
    namespace: Namespace = "flux-system",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Check the machine, the cluster, and what is installed and running."""
    from headrace.cli.check import check

    do(check(target_of(kubeconfig, context, namespace), pre=pre))


@app.command()
def version(output: Output = Format.TABLE) -> None:
    """Print the versions of headrace and of its programs."""
    from headrace.cli.version import version

    do(version(output))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def kubectl(context: typer.Context) -> None:
    """Run kubectl against the cluster of `headrace up` (or KUBECONFIG)."""
    from headrace.cli.kubectl import kubectl

    kubectl(context.args, os.environ)
