"""How files differ is told without a value of a Secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli.artifact.file_diff import file_changes, masked


def changes(directory: Path, before: dict[str, bytes], after: dict[str, bytes]) -> str:
    for name, files in (("before", before), ("after", after)):
        for file, content in files.items():
            path = directory / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (directory / name).mkdir(exist_ok=True)
    return "\n".join(file_changes(directory / "before", directory / "after"))


SECRET = """\
apiVersion: v1
kind: {kind}
metadata: {{name: s}}
data: {{same: c2FtZQ==, password: {password}}}
"""


@pytest.mark.parametrize("kind", ["Secret", '"Secret"', "'Secret'"])
def test_values_of_secrets_are_masked(tmp_path: Path, kind: str) -> None:
    shown = changes(tmp_path, {"s.yaml": SECRET.format(kind=kind, password="b2xk").encode()},
                    {"s.yaml": SECRET.format(kind=kind, password="bmV3").encode()})  # fmt: skip
    assert "-  password: '***** (before)'" in shown
    assert "+  password: '***** (after)'" in shown
    assert "b2xk" not in shown
    assert "bmV3" not in shown


def test_a_secret_is_masked_beside_other_objects_and_in_lists(tmp_path: Path) -> None:
    other = "---\nkind: ConfigMap\nmetadata: {name: c}\ndata: {k: v}\n"
    secret = SECRET.format(kind="Secret", password="b2xk")
    indented = "\n".join(f"  {line}" for line in secret.splitlines())
    listed = f"kind: List\nitems:\n-{indented[1:]}\n"
    shown = changes(tmp_path, {"s.yaml": f"{secret}{other}".encode()},
                    {"s.yaml": other.encode(), "list.yaml": listed.encode()})  # fmt: skip
    assert "b2xk" not in shown
    assert "-kind: Secret" in shown
    assert "+kind: Secret" in shown


@pytest.mark.parametrize(
    "text",
    [
        "kind: Secret\ndata: {{ .Values.x }}\npassword: b2xk\n",
        "kind: Secret\nmetadata: b2xk\n",
        "- kind: Secret\n- b2xk\n",
        "kind: Secret\nmetadata: {annotations: [b2xk]}\n",
    ],
)
def test_what_may_be_a_secret_and_cannot_be_read_is_not_shown(tmp_path: Path, text: str) -> None:
    shown = changes(tmp_path, {}, {"s.yaml": text.encode()})
    assert "not shown" in shown
    assert "b2xk" not in shown


def test_objects_of_one_name_are_told_apart() -> None:
    before = SECRET.format(kind="Secret", password="YQ==") + "---\n" + SECRET.format(kind="Secret", password="Yg==")
    after = SECRET.format(kind="Secret", password="YQ==") + "---\n" + SECRET.format(kind="Secret", password="Yw==")
    shown = masked(before, after)
    assert shown[0].count("password: '*****'\n") == shown[1].count("password: '*****'\n") == 1
    assert "(before)" in shown[0]
    assert "(after)" in shown[1]


def test_binary_files_and_line_ends_are_told_in_words(tmp_path: Path) -> None:
    shown = changes(
        tmp_path, {"b": b"\xff\x00", "l": b"a\n", "e": b"a\x1b[31m\n"}, {"b": b"\xff\x01", "l": b"a", "e": b"b\n"}
    )
    assert "► b changed\n  binary" in shown
    assert "► l changed\n  only in how lines end" in shown
    assert "\x1b" not in shown
    assert "-a?[31m" in shown


def test_directories_without_files_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "after/empty").mkdir(parents=True)
    assert changes(tmp_path, {"a": b"1"}, {"a": b"1"}) == ""
