"""The Go programs are built when something changed, once, by a toolchain that is recent enough."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from hack import go_binaries as programs
from hack.go_binaries import Toolchain

TOOLCHAIN = Toolchain(Path("/usr/bin/go"), (1, 26, 6))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A Go module with both commands, in place of the project's own; the cache is in a place of its own."""
    sources = tmp_path / "go"
    for package in programs.PROGRAMS.values():
        (sources / package).mkdir(parents=True)
        (sources / package / "main.go").write_text("package main\n\nfunc main() {}\n")
    (sources / "go.mod").write_text("module example.com/x\n\ngo 1.26.0\n\nrequire (\n\tk8s.io/kubernetes v1.36.3\n)\n")
    monkeypatch.setattr(programs, "GO_SOURCES", sources)
    monkeypatch.setattr(programs, "DESTINATION", tmp_path / "bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "find_toolchain", lambda: TOOLCHAIN)
    return sources


@pytest.fixture
def compiled(monkeypatch):
    """Names of the programs that were compiled; stands in for the minutes that the compiler takes."""
    done: list[str] = []

    def compile_(toolchain: Toolchain, package: str, output: Path, out: object) -> None:
        done.append(output.name)
        output.write_text(f"{output.name} {len(done)}")

    monkeypatch.setattr(programs, "_compile", compile_)
    monkeypatch.setattr(programs, "_download_modules", lambda toolchain, out: None)
    return done


def go_program(directory: Path, version: str) -> None:
    """A program `go` that reports `version`."""
    directory.mkdir(parents=True)
    program = directory / "go"
    program.write_text(f"#!/bin/sh\necho go version {version} linux/amd64\n")
    program.chmod(0o755)


def test_the_first_build_compiles_both_and_the_second_nothing(module, compiled):
    first = programs.build(io.StringIO())
    second = programs.build(io.StringIO())
    assert compiled == ["headrace-controlplane", "headrace-toolbox"]
    assert first == second
    assert all(path.exists() for path in first)


def test_a_changed_source_builds_anew_and_going_back_does_not(module, compiled):
    programs.build(io.StringIO())
    source = module / "cmd" / "toolbox" / "main.go"
    before = source.read_text()
    source.write_text(before + "// changed\n")
    programs.build(io.StringIO())
    source.write_text(before)
    (toolbox,) = (path for path in programs.build(io.StringIO()) if path.name == "headrace-toolbox")
    assert len(compiled) == 4
    assert toolbox.read_text() == "headrace-toolbox 2"


def test_a_changed_test_of_the_go_code_builds_nothing(module, compiled):
    programs.build(io.StringIO())
    (module / "cmd" / "toolbox" / "main_test.go").write_text("package main\n")
    programs.build(io.StringIO())
    assert len(compiled) == 2


def test_another_go_release_builds_anew(module):
    newer = Toolchain(TOOLCHAIN.program, (1, 27, 0))
    assert programs.build_key(TOOLCHAIN) != programs.build_key(newer)


def test_a_program_that_somebody_replaced_is_put_back(module, compiled):
    toolbox = programs.build(io.StringIO())[1]
    toolbox.write_text("something else")
    programs.build(io.StringIO())
    assert toolbox.read_text() == "headrace-toolbox 2"


def test_a_failed_build_leaves_nothing_that_looks_whole(module, compiled, monkeypatch):
    def fail(*_: object) -> None:
        raise programs.BuildError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(programs, "_compile", fail)
        with pytest.raises(programs.BuildError, match="no space left"):
            programs.build(io.StringIO())
    programs.build(io.StringIO())
    assert len(compiled) == 2


def test_without_a_toolchain_the_error_says_what_to_do(module, monkeypatch):
    monkeypatch.setattr(programs, "find_toolchain", lambda: None)
    with pytest.raises(programs.BuildError, match=r"Go 1\.26\.0 or newer is needed"):
        programs.build(io.StringIO())


def test_the_kubernetes_release_is_linked_in(module):
    flags = programs.linker_flags()
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.3" in flags
    assert "-X k8s.io/component-base/version.gitMinor=36" in flags


@pytest.mark.parametrize(
    ("on_path", "in_wheel", "found"),
    [
        pytest.param("go1.26.8", "go1.26.6", (1, 26, 8), id="PATH first"),
        pytest.param("go1.22.2", "go1.26.6", (1, 26, 6), id="wheel when PATH is too old"),
        pytest.param("go1.22.2", None, None, id="too old and no wheel"),
        pytest.param(None, "go1.26.6", (1, 26, 6), id="nothing on PATH"),
    ],
)
def test_the_toolchain_is_the_first_that_is_recent_enough(tmp_path, monkeypatch, on_path, in_wheel, found):
    monkeypatch.setattr(programs, "required_version", lambda: (1, 26, 0))
    paths = {name: tmp_path / name for name in ("path", "wheel")}
    for name, version in (("path", on_path), ("wheel", in_wheel)):
        if version:
            go_program(paths[name], version)
    monkeypatch.setattr(programs.shutil, "which", lambda _: str(paths["path"] / "go") if on_path else None)
    monkeypatch.setattr(programs, "_wheel_program", lambda: str(paths["wheel"] / "go") if in_wheel else None)
    toolchain = programs.find_toolchain()
    assert (toolchain.version if toolchain else None) == found


def test_progress_counts_packages_and_leaves_messages_of_the_compiler_alone():
    progress = programs.Progress("headrace-toolbox", io.StringIO())
    assert progress.note("k8s.io/api/core/v1")
    assert not progress.note("cmd/toolbox/main.go:3:1: syntax error")
    assert progress.packages == 1


def test_old_builds_are_forgotten(module, compiled):
    for number in range(programs.KEPT_BUILDS + 2):
        (module / "cmd" / "toolbox" / "main.go").write_text(f"package main // {number}\n")
        programs.build(io.StringIO())
    kept = [path for path in programs.cache_root().iterdir() if path.is_dir()]
    assert len(kept) == programs.KEPT_BUILDS
