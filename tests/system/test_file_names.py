from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from rtseg.errors import OptionError
from rtseg.sources import open_source
from rtseg.system.atomic_files import write_text
from rtseg.system.file_names import existing_path
from rtseg.system.read_file import read_lines, read_text


def test_json_keeps_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    write_text(tmp_path / "a.json", json.dumps({"image": name}, ensure_ascii=False))
    assert (tmp_path / "a.json").read_bytes() == b'{"image": "caf\\udce9.png"}'
    assert json.loads((tmp_path / "a.json").read_text())["image"] == name


@pytest.mark.parametrize("where", ["a\0.mp4", "file:///a%00b.mp4", "a\0*.png", "@a\0", "\ud800.png", Path("a\0")])
def test_a_source_that_no_file_can_have_as_its_name_is_refused(where: str | Path) -> None:
    with pytest.raises(OptionError, match="a character that no file name can have"):
        open_source(where)


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_a_path_is_found_in_either_unicode_form(stored: str, tmp_path: Path) -> None:
    (tmp_path / unicodedata.normalize(stored, "ü")).touch()
    for form in ("NFC", "NFD"):
        assert existing_path(tmp_path / unicodedata.normalize(form, "ü")).exists()
    assert existing_path(tmp_path / "other") == tmp_path / "other"


def test_utf16_is_read_where_the_byte_order_mark_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("ü\r\nb".encode("utf-16"))
    assert read_text(tmp_path / "a") == "ü\nb"


def test_lines_end_only_at_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("a\u2028b \r\n\x0cc\n".encode())
    assert read_lines(tmp_path / "a") == ["a\u2028b", "\x0cc", ""]


def test_a_binary_file_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a\0b")
    with pytest.raises(UnicodeDecodeError):
        read_lines(tmp_path / "a")
