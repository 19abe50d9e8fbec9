from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from rtseg.errors import SourceError
from rtseg.image_io.find import find_files, find_images
from rtseg.image_io.notes import ImageNotes
from rtseg.sources import open_source

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "für") for form in ("NFC", "NFD"))


def touch(folder: Path, *names: str | bytes) -> None:
    for name in names:
        (folder / os.fsdecode(name)).touch()


def names_of(where: str | Path) -> list[str]:
    return [path.name for path in find_files(where) if isinstance(path, Path)]


@pytest.mark.parametrize("pattern", ["", "/*"])
def test_skipped_files_and_broken_links_are_noted(pattern: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.jfif", "c.gif", "d.avif", "photo", ".hidden.gif", "Thumbs.db", "README", "boxes.csv")
    (tmp_path / "f.png").symlink_to("nowhere")
    (tmp_path / "sub").mkdir()
    notes = ImageNotes()
    assert [path.name for path in find_images(f"{tmp_path}{pattern}", notes)] == ["a.png", "b.jfif"]
    assert notes.lines == [
        "skipped 3 files (c.gif, d.avif, photo): not a supported format",
        "skipped 1 links (f.png): their targets do not exist",
    ]


def test_a_link_that_leads_to_itself_does_not_refuse_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    notes = ImageNotes()
    assert [path.name for path in find_images(tmp_path, notes)] == ["a.png"]
    assert notes.lines == ["skipped 1 links (loop.png): their targets do not exist"]


@pytest.mark.parametrize("stored", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("given", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("pattern", ["{}1.png", "{}*.png", "{}%d.png"])
def test_a_name_is_found_in_either_unicode_form(stored: str, given: str, pattern: str, tmp_path: Path) -> None:
    touch(tmp_path, f"{stored}1.png")
    assert names_of(tmp_path / pattern.format(given)) == [f"{stored}1.png"]
    (tmp_path / "list.txt").write_text(f"{given}1.png\n")
    assert names_of(tmp_path / "list.txt") == [f"{stored}1.png"]


@pytest.mark.parametrize(
    "content",
    [
        "a b.png\r\nc.png\r\n".encode("utf-8-sig"),
        "a b.png\nc.png".encode("utf-16"),
        b"  a b.png\t\rc.png\r\r",
    ],
)
def test_a_list_of_any_editor_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    assert names_of(tmp_path / "list.txt") == ["a b.png", "c.png"]


def test_a_list_may_name_files_that_are_not_utf8(tmp_path: Path) -> None:
    touch(tmp_path, b"caf\xe9.png")
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.png\n")
    (path,) = find_files(tmp_path / "list.txt")
    assert isinstance(path, Path)
    assert path.exists()


@pytest.mark.parametrize("name", ["@images", "images.txt", "images[1]", "frames%d"])
def test_a_folder_that_exists_as_written_is_no_list_or_pattern(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    touch(tmp_path / name, "a.png")
    assert names_of(name) == ["a.png"]


def test_an_heif_image_is_refused_with_what_to_do(tmp_path: Path) -> None:
    touch(tmp_path, "a.heic")
    with pytest.raises(SourceError, match="is an HEIF image, which cannot be read: convert it to PNG or JPEG"):
        open_source(tmp_path / "a.heic")
