"""Makes the settings tree options of a command: one for each leaf, in the order of the tree."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from headrace.settings import LEAVES, Leaf


def all_settings(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with an option for each setting in place of its `**settings`, which gets those that were given.

    An option that is not given stays out of them, so that environment and file count.
    """
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]

    def called(**values: Any) -> None:
        fixed = {p.name: values.pop(p.name) for p in own}
        given = {name.replace("_", "-"): value for name, value in values.items() if value is not None}
        command(**fixed, **given)

    parameters = [*own, *map(_parameter, LEAVES)]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    called.__name__, called.__doc__ = command.__name__.rstrip("_"), command.__doc__
    return called


def normalise(argv: Sequence[str]) -> list[str]:
    """Boolean settings as Go's flags have them: `--flag=true` becomes `--flag`, `--flag=false` becomes `--no-flag`."""
    booleans = {leaf.flag for leaf in LEAVES if isinstance(leaf.default, bool)}
    found: list[str] = []
    for argument in argv:
        name, separator, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and separator and name in booleans and value.lower() in ("true", "false"):
            found.append(f"--{name}" if value.lower() == "true" else f"--no-{name}")
        else:
            found.append(argument)
    return found


def _parameter(leaf: Leaf) -> inspect.Parameter:
    boolean = isinstance(leaf.default, bool)
    kind: Any = bool if boolean else str
    metavar = None if boolean else "DURATION" if leaf.duration else type(leaf.default).__name__.upper()
    text = f"{leaf.description} [default: {leaf.shown_default or 'empty'}]"
    names = (f"--{leaf.flag}/--no-{leaf.flag}",) if boolean else (f"--{leaf.flag}",)
    option = typer.Option(*names, help=text, metavar=metavar, show_default=False)
    return inspect.Parameter(
        leaf.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )
