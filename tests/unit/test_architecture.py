"""The rules of the architecture that import-linter cannot state: who alone may do a dangerous or global thing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import headrace

PACKAGE = Path(headrace.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
FUNCTION_LINES = 50
"""The hard limit for a function, docstring apart."""

PROCESS_STARTERS = {
    "subprocess", "multiprocessing", "pty",
    "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell",
    "os.fork", "os.forkpty", "os.popen", "os.posix_spawn", "os.posix_spawnp", "os.system",
}
CLOCKS = {
    "asyncio.sleep", "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
    "time.sleep", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today",
}
ARCHIVES = {"tarfile", "zipfile", "shutil.unpack_archive"}
LOOSE_TASKS = {"asyncio.create_task", "asyncio.ensure_future", "asyncio.get_event_loop"}
HTTP_CLIENTS = {"aiohttp.ClientSession", "aiohttp.request", "urllib.request", "http.client"}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(), module)


@cache
def names_used(module: str) -> frozenset[str]:
    """Dotted names of everything from other modules that `module` uses, such as `time.monotonic`, however imported."""
    imported = dict(_imports(module))
    used = set(imported.values())
    yields = {id(node.func) for node in ast.walk(tree(module)) if isinstance(node, ast.Call) and _gives_way(node)}
    for node in ast.walk(tree(module)):
        if id(node) in yields:
            continue
        dotted = _dotted(node)
        head, _, rest = dotted.partition(".")
        if rest and head in imported:
            used.add(f"{imported[head]}.{rest}")
    return frozenset(used)


def _imports(module: str) -> Iterator[tuple[str, str]]:
    """(local name, what it stands for) of each absolute import."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _gives_way(call: ast.Call) -> bool:
    """`asyncio.sleep(0)` lets others run; it is no waiting."""
    match call:
        case ast.Call(func=ast.Attribute(attr="sleep"), args=[ast.Constant(value=0)]):
            return True
    return False


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute) and (base := _dotted(node.value)):
        return f"{base}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def users_of(names: set[str]) -> set[str]:
    """Modules that use one of `names`, or something within it."""
    return {
        module for module in MODULES
        if any(used == name or used.startswith(f"{name}.") for used in names_used(module) for name in names)
    }


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        # the embedded cluster outlives the process that starts it, which the sandbox exists to prevent
        pytest.param(PROCESS_STARTERS, {"core/sandbox.py", "cluster/process.py"}, id="processes: core.sandbox"),
        pytest.param({"os.execv", "os.execve", "os.execvp", "os.execvpe"}, {"cli/kubectl.py"}, id="exec: kubectl"),
        # failpoints sleep on purpose, whatever clock is injected: they simulate a process that hangs
        pytest.param(CLOCKS, {"core/clock.py", "core/failpoints.py"}, id="time: core.clock"),
        pytest.param({"random", "uuid"}, {"core/random.py"}, id="chance: core.random"),
        pytest.param(ARCHIVES, {"core/unpack.py"}, id="archives: core.unpack"),
        # these two race the work against a signal to stop, and end both
        pytest.param(LOOSE_TASKS, {"cli/up.py", "cli/runtime.py"}, id="tasks: only in a TaskGroup"),
    ],
)
def test_only_one_module_does(names: set[str], allowed: set[str]):
    assert users_of(names) <= allowed


def test_http_requests_leave_only_through_the_cluster_client_and_the_gate_for_urls():
    packages = {module.partition("/")[0] for module in users_of(HTTP_CLIENTS)}
    assert packages <= {"kube", "core", "cli"}


def test_only_status_writes_the_status_subresource():
    writers = {
        module for module in MODULES for node in ast.walk(tree(module))
        if isinstance(node, ast.keyword) and node.arg == "subresource"
        and isinstance(node.value, ast.Constant) and node.value.value == "status"
    }
    assert {module.partition("/")[0] for module in writers} <= {"status"}


def test_values_that_cross_stages_depend_on_nothing_but_msgspec():
    roots = {
        name.partition(".")[0]
        for module in MODULES if module.startswith("model/")
        for _, name in _imports(module)
    }
    assert roots - sys.stdlib_module_names <= {"msgspec", "headrace"}


def test_no_function_is_longer_than_the_hard_limit():
    assert {name: lines for name, lines in _function_lengths() if lines > FUNCTION_LINES} == {}


def _function_lengths() -> Iterator[tuple[str, int]]:
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                yield f"{module}:{node.name}", (node.end_lineno or 0) - first.lineno + 1


@pytest.mark.parametrize("word", ["utils", "helpers", "manager", "misc", "common"])
def test_modules_have_names_that_say_what_they_hold(word: str):
    assert [module for module in MODULES if word in Path(module).stem.split("_")] == []
