"""``rtseg data get``: no test uses the network."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from helpers.comma10k import comma10k
from typer.testing import CliRunner

from rtseg.cli import app
from rtseg.datasets import open_dataset
from rtseg.datasets.matched_classes import map_classes
from rtseg.datasets.synthetic import SyntheticStreet
from rtseg.errors import DatasetError, ModelError, OptionError
from rtseg.model_file.spec import VOID
from rtseg.published.data_sets import DATA_SETS, PublishedData, find_data, get_data, unpack

ROOT = Path(__file__).parents[2]


def archive(path: Path, folder: Path, top: str = "comma10k-master") -> Path:
    with zipfile.ZipFile(path, "w") as target:
        for file in sorted(folder.rglob("*.png")):
            target.write(file, f"{top}/{file.relative_to(folder)}")
        target.writestr(f"{top}/viewer.py", "print('not wanted')")
        target.writestr(f"{top}/imgs/../../../outside.png", b"x")
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a tiny archive of comma10k, and the folder that the server serves."""
    folder = tmp_path_factory.mktemp("served")
    archive(folder / "small.zip", comma10k(folder / "set"))

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", folder
        server.shutdown()
        thread.join(10)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RTSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(url: str, **changes: Any) -> PublishedData:
    facts: dict[str, Any] = {
        "name": "tiny",
        "url": url,
        "file_name": "tiny.zip",
        "licence": "MIT: any use",
        "is_free": True,
        "folders": ("imgs", "masks"),
        "data": "pairs:{folder}/imgs,{folder}/masks",
        "gigabytes": 0.001,
    }
    return PublishedData(**(facts | changes))


def test_a_set_is_downloaded_and_unpacked_after_its_licence_was_shown(
    served: tuple[str, Path], tmp_path: Path, cache: Path
) -> None:
    lines: list[str] = []
    assert get_data(entry(f"{served[0]}/small.zip"), tmp_path / "out", notify=lines.append) == 24
    assert lines[0] == "tiny: licence: MIT: any use"
    assert "no SHA-256 is published" in lines[1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["imgs", "masks"]
    assert not list(tmp_path.rglob("outside.png"))
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == ["tiny.zip.sha256"]
    assert len(open_dataset(f"pairs:{tmp_path}/out/imgs,{tmp_path}/out/masks,classes=a", "train")) > 0


def test_files_that_are_there_are_not_written_again(served: tuple[str, Path], tmp_path: Path) -> None:
    source = served[1] / "small.zip"
    assert unpack(source, tmp_path / "out", ("imgs",)) == 12
    first, second = sorted((tmp_path / "out" / "imgs").iterdir())[:2]
    stamp = first.stat().st_mtime_ns
    second.write_bytes(second.read_bytes()[:-5])
    assert unpack(source, tmp_path / "out", ("imgs",)) == 12
    assert first.stat().st_mtime_ns == stamp
    assert second.stat().st_size == (served[1] / "set" / "imgs" / second.name).stat().st_size


def test_a_damaged_and_a_changed_archive_are_refused(tmp_path: Path, served: tuple[str, Path]) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(DatasetError, match=r"bad\.zip is damaged .*: remove it and its \.sha256 file, and try again"):
        unpack(tmp_path / "bad.zip", tmp_path, ("imgs",))
    with pytest.raises(DatasetError, match="has none of photos: its publisher has changed it"):
        unpack(served[1] / "small.zip", tmp_path, ("photos",))


@pytest.mark.parametrize("damage", ["content", "method"])
def test_an_archive_damaged_within_is_refused_and_leaves_no_file(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("set/imgs/a.png", bytes(range(256)) * 40)
    data = bytearray(path.read_bytes())
    if damage == "content":
        data[30 + len("set/imgs/a.png")] = 0xFF  # the first byte of the compressed data: a block of an unknown kind
    else:
        data[data.rindex(b"PK\x01\x02") + 10] = 98
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"bad\.zip is damaged"):
        unpack(path, tmp_path / "out", ("imgs",))
    assert not [each for each in (tmp_path / "out").rglob("*") if each.is_file()]


def test_without_a_network_there_is_a_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot download http://127\.0\.0\.1:9/x\.zip \(.*refused.*\): try again"):
        get_data(entry("http://127.0.0.1:9/x.zip"), tmp_path / "out")
    with pytest.raises(
        ModelError, match=r"tiny is not in .*, and --offline forbids a download: run `rtseg data get tiny`"
    ):
        get_data(entry("http://127.0.0.1:9/x.zip"), tmp_path / "out", offline=True)


def test_the_command_lists_and_refuses() -> None:
    listed = CliRunner().invoke(app, ["data", "get"], env={"COLUMNS": "200"})
    assert listed.exit_code == 0
    assert all(name in listed.output for name in DATA_SETS)
    assert "NOT commercial" in listed.output
    with pytest.raises(OptionError, match="unknown data set 'imagenet'; known are comma10k, camvid"):
        find_data("imagenet")


def test_the_recipe_of_comma10k_reads_its_colours(tmp_path: Path) -> None:
    folder = comma10k(tmp_path / "comma10k")
    text = DATA_SETS["comma10k"].data.format(folder=folder).replace("recipes/", f"{ROOT}/recipes/")
    train, val = (open_dataset(text, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (11, 1)
    assert train.classes == ("road", "undrivable", "movable", "my car")
    assert set(np.unique(train.load(0)[1])) == {0, 1, 2}
    assert train.licence == "MIT"


class TestMapClasses:
    PAIRS = (("movable", "Car"), ("movable", "Pedestrian"), ("rest", "Sky"), ("void", "Pole"))

    @pytest.fixture
    def target(self, tmp_path: Path) -> Any:
        folder = comma10k(tmp_path / "set", 3)
        classes = "road:#402020+rest:#808060+movable:#00FF66"
        return open_dataset(f"pairs:{folder}/imgs,{folder}/masks,classes={classes},void=#FF0000", "train")

    def test_classes_without_a_partner_become_void(self, target: Any) -> None:
        street = SyntheticStreet("street,frames=2", "train")
        mapped = map_classes(street, target, self.PAIRS)
        assert (mapped.classes, mapped.palette) == (target.classes, target.palette)
        wanted = {0: 1, 3: 0, 8: 2, 9: 2}
        (_, labels), (_, plain) = mapped.load(1), street.load(1)
        assert {int(value): set(labels[plain == value].tolist()) for value in np.unique(plain)} == {
            int(value): {wanted.get(int(value), VOID)} for value in np.unique(plain)
        }
        np.testing.assert_array_equal(mapped.clip(1, 0, 2)[-1][1], labels)
        assert not np.array_equal(*(image for image, _ in mapped.clip(1, 0, 2)))

    def test_the_same_classes_stay_as_they_are(self, target: Any) -> None:
        assert map_classes(target, target, self.PAIRS) is target

    def test_unknown_names_are_refused(self, target: Any) -> None:
        street = SyntheticStreet("street,frames=2", "train")
        with pytest.raises(OptionError, match=r"--map-classes: .* has no class 'moving'; it has road, rest, movable"):
            map_classes(street, target, [("moving", "Car")])
        with pytest.raises(DatasetError, match=r"no class of .* is one of .*: say what they are with --map-classes"):
            map_classes(street, target, [("void", "Road")])
