"""SEC-01 to SEC-05: archives that try to write elsewhere, or to fill the disk. What the user reads is asserted."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from headrace.core.limits import UnpackLimits
from headrace.core.paths import PathRefused, resolve_inside
from headrace.core.unpack import ArchiveRefused, TreeWriter, unpack

FILE, HARD, SYMBOLIC, CHARACTER, BLOCK, DIRECTORY, FIFO = (bytes([48 + n]) for n in range(7))


def entry(
    name: str, data: bytes = b"", kind: bytes = FILE, link: str = "", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), mode
    return info, data


def archive(entries: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=form) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return stream


def refused(directory: Path, *entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> str:
    """Unpack a good file and then the entries; returns the message, after a look that nothing was written."""
    target = directory / "tree"
    target.mkdir()
    with pytest.raises(ArchiveRefused) as caught:
        unpack(archive([entry("good", b"fine"), *entries], form), target)
    assert list(target.iterdir()) == []
    assert [path.name for path in directory.iterdir()] == ["tree"]
    return str(caught.value)


@pytest.mark.spec("SEC-01", "SRC-ART-10")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../x", "it leads out of the tree"),
        ("a/../../x", "it leads out of the tree"),
        ("a/..", "it leads out of the tree"),
        ("..", "it leads out of the tree"),
        ("/x", "it is absolute"),
        ("C:/x", "it begins with a drive letter"),
        ("C:\\x", "it contains a backslash"),
        ("a\\..\\x", "it contains a backslash"),
        ("a\nb", "it contains control characters"),
        (".git/hooks/post-checkout", "it stands for .git"),
    ],
)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_a_name_that_leads_elsewhere_refuses_the_archive_before_any_write(
    tmp_path: Path, name: str, why: str, form: int
) -> None:
    assert refused(tmp_path, entry(name, b"bad"), form=form).endswith(f"is refused: {why}")


@pytest.mark.spec("SEC-01")
def test_a_pax_path_is_checked_and_not_the_harmless_name_beside_it(tmp_path: Path) -> None:
    info, data = entry("harmless", b"bad")
    info.pax_headers = {"path": "../outside"}
    assert refused(tmp_path, (info, data)) == "path '../outside' is refused: it leads out of the tree"


@pytest.mark.spec("SEC-01")
def test_a_pax_path_with_a_nul_byte_refuses_the_archive(tmp_path: Path) -> None:
    info, data = entry("harmless", b"bad")
    info.pax_headers = {"path": "a\0b"}
    assert refused(tmp_path, (info, data)) == "a PAX header contains a NUL byte"


@pytest.mark.spec("SEC-02")
@pytest.mark.parametrize("target", ["/", "/etc/passwd", "../outside", "a/../../outside", "..\\x"])
def test_a_symbolic_link_out_of_the_tree_refuses_the_archive(tmp_path: Path, target: str) -> None:
    message = refused(tmp_path, entry("link", kind=SYMBOLIC, link=target), entry("link/file", b"bad"))
    assert message.startswith("symbolic link 'link' -> '")
    assert message.endswith("is refused: it leads out of the tree")


@pytest.mark.spec("SEC-02")
def test_a_hard_link_out_of_the_tree_refuses_the_archive(tmp_path: Path) -> None:
    message = refused(tmp_path, entry("passwd", kind=HARD, link="/etc/passwd"))
    assert message == "path '/etc/passwd' is refused: it is absolute"


@pytest.mark.spec("SEC-02", "SRC-ART-10", "KS-SRC-06")
def test_links_that_stay_inside_are_left_out_and_nothing_is_written_through_them(tmp_path: Path) -> None:
    stream = archive([
        entry("a/file", b"1"),
        entry("one", kind=SYMBOLIC, link="a"),
        entry("two", kind=SYMBOLIC, link="one"),
        entry("hard", kind=HARD, link="a/file"),
        entry("two/through", b"2"),
    ])
    unpack(stream, tmp_path)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert names == ["a", "a/file", "two", "two/through"]
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@pytest.mark.spec("SEC-02", "SEC-54")
def test_a_link_that_appears_in_the_directory_is_not_followed(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    tree.mkdir()
    outside.mkdir()
    (tree / "folder").symlink_to(outside)
    with TreeWriter(tree) as writer, pytest.raises(ArchiveRefused, match="both a file and a directory"):
        writer.file("folder/file", [b"bad"])
    assert list(outside.iterdir()) == []


@pytest.mark.spec("SEC-03")
@pytest.mark.parametrize(
    ("kind", "shown"), [(CHARACTER, "character device"), (BLOCK, "block device"), (FIFO, "FIFO"), (b"S", "sparse file")]
)
def test_what_is_neither_file_nor_directory_refuses_the_archive(tmp_path: Path, kind: bytes, shown: str) -> None:
    assert refused(tmp_path, entry("odd", kind=kind)) == f"'odd' is a {shown}, which is refused"


@pytest.mark.spec("SEC-03")
def test_modes_are_ours_whatever_the_archive_says(tmp_path: Path) -> None:
    unpack(archive([
        entry("suid", b"1", mode=0o4755), entry("none", b"2", mode=0), entry("d", kind=DIRECTORY, mode=0o7777),
    ]), tmp_path)  # fmt: skip
    modes = {path.name: path.stat().st_mode & 0o7777 for path in tmp_path.iterdir()}
    assert modes == {"suid": 0o700, "none": 0o600, "d": 0o700}


@pytest.mark.spec("SEC-04")
def test_a_gzip_that_unpacks_a_thousandfold_is_refused(tmp_path: Path) -> None:
    bomb = archive([entry("zeros", bytes(64 * 1024 * 1024))])
    assert bomb.getbuffer().nbytes * 900 < 64 * 1024 * 1024
    with pytest.raises(ArchiveRefused, match="the archive unpacks to more than 250 times its size"):
        unpack(bomb, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.spec("SEC-04")
@pytest.mark.parametrize(
    ("limits", "entries", "message"),
    [
        (UnpackLimits(files=10), [entry(f"{n}") for n in range(11)], "more than 10 files and directories"),
        (UnpackLimits(file_bytes=10), [entry("big", bytes(11))], "'big' is larger than 10 bytes"),
        (UnpackLimits(total_bytes=2000), [entry(f"{n}", bytes(500)) for n in range(5)], "more than 2000 bytes"),
        (UnpackLimits(depth=5), [entry("/".join("abcdef"))], "it is deeper than 5 directories"),
        (UnpackLimits(name_bytes=50), [entry("x" * 51)], "it is longer than 50 bytes"),
        (UnpackLimits(), [entry("x" * 256)], "a part of it is longer than 255 bytes"),
        (UnpackLimits(archive_bytes=1000), [entry("noise", os.urandom(2000))], "the archive is larger than 1000 bytes"),
    ],
    ids=["count", "file", "total", "depth", "name", "segment", "archive"],
)
def test_every_amount_has_a_limit(
    tmp_path: Path, limits: UnpackLimits, entries: list[tuple[tarfile.TarInfo, bytes]], message: str
) -> None:
    with pytest.raises(ArchiveRefused, match=message):
        unpack(archive(entries), tmp_path, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.spec("SEC-04")
def test_a_header_that_declares_a_huge_extension_is_refused_unread(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = b"L", 8 * 1024**3
    with pytest.raises(ArchiveRefused, match="an extension header is larger than"):
        unpack(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)), tmp_path)


@pytest.mark.spec("SEC-05")
def test_a_stream_without_end_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def seek(self, *_: int) -> int:
            return 0

        def read(self, size: int = -1) -> bytes:
            Endless.given += size
            return tarfile.TarInfo("x").tobuf().ljust(size, b"\0") if Endless.given == size else bytes(size)

    with pytest.raises(ArchiveRefused, match="the archive is larger than 1000000 bytes"):
        unpack(Endless(), tmp_path, UnpackLimits(archive_bytes=1_000_000))  # type: ignore[arg-type]
    assert Endless.given < 2_000_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "this is no tar archive"),
        (b"hello", "the archive ends too early"),
        (b"x" * 600, "this is no tar archive"),
        (gzip.compress(b"hello"), "the archive ends too early"),
        (archive([entry("noise", os.urandom(9000))]).getvalue()[:4000], "it ends too early"),
        (b"\x1f\x8b" + b"\xff" * 100, "the archive is no valid gzip"),
    ],
    ids=["empty", "short", "no tar", "no tar inside", "cut", "no gzip"],
)
def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ArchiveRefused, match=message):
        unpack(io.BytesIO(data), tmp_path)


@pytest.mark.spec("SEC-11")
@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "link", "link/x", "../missing", "a/\0"])
def test_a_path_of_a_spec_stays_inside_whether_or_not_the_target_exists(tmp_path: Path, path: str) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    tree.mkdir()
    outside.mkdir()
    (tree / "link").symlink_to(outside)
    with pytest.raises(PathRefused, match="is outside of the tree"):
        resolve_inside(tree, path)


def test_a_path_of_a_spec_may_be_written_in_many_ways(tmp_path: Path) -> None:
    for path in ("a/b", "./a/b", "/a/b", "a/./b/", "a/c/../b"):
        assert resolve_inside(tmp_path, path) == tmp_path.resolve() / "a" / "b"
    assert resolve_inside(tmp_path, "") == tmp_path.resolve()
