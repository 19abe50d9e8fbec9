from __future__ import annotations

import json
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.image_saving import SaveImage
from numpy.typing import NDArray

from rtseg.datasets import Dataset, open_dataset
from rtseg.errors import DatasetError, OptionError, RtsegError
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.system.opencv import cv2

IDS = np.array([[0, 1, 2, 255], [2, 2, 1, 0], [0, 0, 1, 255]], np.uint8)
RED, BLUE, BLACK = (255, 0, 0), (0, 0, 255), (0, 0, 0)


def open_all(tmp_path: Path, options: str, split: str = "train") -> Dataset:
    """The pairs of ``images`` and ``masks``, all in ``train`` unless ``options`` says otherwise."""
    val = "" if "val=" in options or "lists=" in options else ",val=0"
    return open_dataset(f"pairs:{tmp_path}/images,{tmp_path}/masks,{options}{val}", split)


def painted(labels: NDArray[np.uint8], colours: list[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """BGR image of ``labels`` in RGB ``colours``."""
    image: NDArray[np.uint8] = np.array(colours, np.uint8)[labels][..., ::-1]
    return image


def png(path: Path, labels: NDArray[np.uint8], depth: int, colour_type: int, palette: bytes = b"") -> None:
    """A PNG of ``depth`` bits a pixel, which cv2 cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b""
    for row in labels:
        bits = "".join(f"{value:0{depth}b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        rows += b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    head = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"gAMA", struct.pack(">I", 45455))]
    chunks += [(b"PLTE", palette), (b"tRNS", b"\0\x80")] if palette else []
    body = b"".join(chunk(*entry) for entry in [*chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


class TestMasksOfNumbers:
    def test_names_alone_stand_for_the_numbers_from_0(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.jpg")
        save("masks/a.png", IDS)
        dataset = open_all(tmp_path, "classes=road+car+sky")
        np.testing.assert_array_equal(dataset.load(0)[1], IDS)
        assert dataset.classes == ("road", "car", "sky")

    def test_other_numbers_are_mapped_in_the_order_of_the_classes(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        save("masks/a.png", np.array([[7, 26, 7, 0], [0, 0, 0, 0], [26, 26, 255, 255]], np.uint8))
        labels = open_all(tmp_path, "classes=car:26+road:7,void=0").load(0)[1]
        assert labels.tolist() == [[1, 0, 1, VOID], [VOID] * 4, [0, 0, VOID, VOID]]

    def test_255_is_a_class_where_it_is_declared_as_one(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        save("masks/a.png", np.array([[0, 255, 0, 255]] * 3, np.uint8))
        assert open_all(tmp_path, "classes=background:0+crack:255").load(0)[1].tolist() == [[0, 1, 0, 1]] * 3

    def test_numbers_of_16_bits_are_read_whole(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        save("masks/a.png", np.array([[1000, 24001, 1000, 0]] * 3, np.uint16))
        labels = open_all(tmp_path, "classes=a:1000+b:24001,void=0").load(0)[1]
        assert (labels.dtype, labels.tolist()) == (np.uint8, [[0, 1, 0, VOID]] * 3)

    def test_grey_saved_as_colour_is_read_as_numbers(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        save("masks/a.bmp", np.repeat(IDS[..., None], 3, axis=2))
        np.testing.assert_array_equal(open_all(tmp_path, "classes=a+b+c").load(0)[1], IDS)

    def test_a_palette_mask_is_read_by_number(self, tmp_path: Path, save: SaveImage, save_palette: SaveImage) -> None:
        save("images/a.png")
        save_palette("masks/a.png", IDS, np.zeros((256, 3), np.uint8))
        np.testing.assert_array_equal(open_all(tmp_path, "classes=a+b+c").load(0)[1], IDS)

    @pytest.mark.parametrize("depth", [1, 2, 4])
    @pytest.mark.parametrize("colour_type", [0, 3], ids=["grey", "palette"])
    def test_numbers_of_few_bits_are_not_scaled(
        self, tmp_path: Path, save: SaveImage, depth: int, colour_type: int
    ) -> None:
        stored = np.arange(15, dtype=np.uint8).reshape(3, 5) % (1 << depth)
        save("images/a.png", size=(3, 5))
        png(tmp_path / "masks" / "a.png", stored, depth, colour_type, bytes(3 << depth) if colour_type else b"")
        names = "+".join(f"c{i}" for i in range(1 << depth))
        np.testing.assert_array_equal(open_all(tmp_path, f"classes={names}").load(0)[1], stored)

    def test_an_undeclared_number_is_refused_with_file_value_and_a_way_out(
        self, tmp_path: Path, save: SaveImage
    ) -> None:
        save("images/a.png")
        mask = save("masks/a.png", IDS)
        with pytest.raises(DatasetError) as caught:
            open_all(tmp_path, "classes=road+car").load(0)
        assert str(caught.value) == (
            f"{mask} holds 2 (3 pixels), which classes= does not declare: add a class, or make it void with void= or "
            "undeclared=void"
        )

    def test_undeclared_numbers_are_void_where_the_user_says_so(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        save("masks/a.png", IDS)
        labels = open_all(tmp_path, "classes=road+car,undeclared=void").load(0)[1]
        np.testing.assert_array_equal(labels, np.where(IDS == 2, VOID, IDS))

    def test_a_mask_of_colours_is_refused_where_only_numbers_are_declared(
        self, tmp_path: Path, save: SaveImage
    ) -> None:
        save("images/a.png")
        save("masks/a.png")
        with pytest.raises(DatasetError, match=r"a.png holds colours, classes= only numbers: declare colours"):
            open_all(tmp_path, "classes=a+b").load(0)


class TestMasksOfColours:
    OPTIONS = "classes=red:#FF0000+blue:#0000FF"

    def test_each_colour_is_its_class_and_paints_it(self, tmp_path: Path, save: SaveImage) -> None:
        labels = np.array([[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]], np.uint8)
        save("images/a.png")
        save("masks/a.png", painted(labels, [RED, BLUE]))
        dataset = open_all(tmp_path, self.OPTIONS)
        np.testing.assert_array_equal(dataset.load(0)[1], labels)
        assert dataset.palette == (RED, BLUE)

    def test_palette_masks_and_rgb_masks_may_be_mixed(
        self, tmp_path: Path, save: SaveImage, save_palette: SaveImage
    ) -> None:
        labels = np.array([[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]], np.uint8)
        colours = np.zeros((256, 3), np.uint8)
        colours[[9, 4]] = RED, BLUE
        for name in "ab":
            save(f"images/{name}.png")
        save("masks/a.png", painted(labels, [RED, BLUE]))
        save_palette("masks/b.png", np.array([9, 4], np.uint8)[labels], colours)
        dataset = open_all(tmp_path, self.OPTIONS)
        for index in range(2):
            np.testing.assert_array_equal(dataset.load(index)[1], labels)

    def test_transparency_is_ignored(self, tmp_path: Path, save: SaveImage) -> None:
        labels = np.array([[0, 1, 0, 1]] * 3, np.uint8)
        save("images/a.png")
        alpha = np.full((3, 4, 1), 7, np.uint8)
        save("masks/a.png", np.concatenate((painted(labels, [RED, BLUE]), alpha), axis=2))
        np.testing.assert_array_equal(open_all(tmp_path, self.OPTIONS).load(0)[1], labels)

    @pytest.mark.parametrize("as_colour", [False, True])
    def test_a_grey_mask_is_read_by_colour_where_only_colours_are_declared(
        self, tmp_path: Path, save: SaveImage, as_colour: bool
    ) -> None:
        stored = np.array([[0, 255, 0, 255]] * 3, np.uint8)
        save("images/a.png")
        save("masks/a.png", np.repeat(stored[..., None], 3, axis=2) if as_colour else stored)
        labels = open_all(tmp_path, "classes=background:#000000+crack:#FFFFFF").load(0)[1]
        assert labels.tolist() == [[0, 1, 0, 1]] * 3

    def test_white_of_a_one_bit_mask_is_white(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        png(tmp_path / "masks" / "a.png", np.array([[0, 1, 0, 1]] * 3, np.uint8), 1, 0)
        labels = open_all(tmp_path, "classes=background:#000000+crack:#FFFFFF").load(0)[1]
        assert labels.tolist() == [[0, 1, 0, 1]] * 3

    @pytest.mark.parametrize("palette", [False, True])
    def test_an_undeclared_colour_is_refused_with_file_and_colour_unless_it_is_void(
        self, tmp_path: Path, save: SaveImage, save_palette: SaveImage, palette: bool
    ) -> None:
        stored = np.array([[0, 1, 2, 2]] * 3, np.uint8)
        save("images/a.png")
        if palette:
            save_palette("masks/a.png", stored, np.array([RED, BLUE, BLACK, *[BLACK] * 253], np.uint8))
        else:
            save("masks/a.png", painted(stored, [RED, BLUE, BLACK]))
        with pytest.raises(DatasetError, match=r"masks/a.png holds #000000 \(6 pixels\), which classes= does not"):
            open_all(tmp_path, self.OPTIONS).load(0)
        for option in ("void=#000000", "undeclared=void"):
            labels = open_all(tmp_path, f"{self.OPTIONS},{option}").load(0)[1]
            assert labels.tolist() == [[0, 1, VOID, VOID]] * 3

    def test_of_many_undeclared_colours_the_commonest_are_named(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        save("masks/a.png", painted(np.arange(12, dtype=np.uint8).reshape(3, 4) % 7, [(i, 0, 1) for i in range(7)]))
        with pytest.raises(DatasetError, match=r"holds #000001 \(2 pixels\), .* and 2 more, which"):
            open_all(tmp_path, self.OPTIONS).load(0)

    def test_a_class_can_be_made_void_by_name(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        save("masks/a.png", painted(np.array([[0, 1, 0, 1]] * 3, np.uint8), [RED, BLUE]))
        dataset = open_all(tmp_path, f"{self.OPTIONS},void=red")
        assert dataset.classes == ("blue",)
        assert dataset.load(0)[1].tolist() == [[VOID, 0, VOID, 0]] * 3

    def test_16_bit_masks_are_refused(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        for image, message in (
            (np.zeros((3, 4), np.uint16), "holds 16-bit numbers, classes= only colours"),
            (np.zeros((3, 4, 3), np.uint16), "has colours of uint16: save masks with 8 bits per channel"),
        ):
            save("masks/a.png", image)
            with pytest.raises(DatasetError, match=message):
                open_all(tmp_path, self.OPTIONS).load(0)


class TestTableOfClasses:
    @pytest.mark.parametrize(
        ("facts", "classes", "ids"),
        [
            ({"classes": ["a", "b", "c"]}, ("a", "b", "c"), [0, 1, 2]),
            ({"classes": {"c": 2, "b": 1, "a": 0}}, ("c", "b", "a"), [2, 1, 0]),
            ({"classes": {"a": 0, "both": {"ids": [1, 2]}}, "note": "kept"}, ("a", "both"), [0, 1, 1]),
            ({"classes": {"a": 0, "b": {"id": 1, "colour": "#FF0000"}}, "void": [2]}, ("a", "b"), [0, 1, VOID]),
            (
                {"classes": [{"name": "a", "id": 2}, {"title": "b", "id": 1, "color": [9, 9, 9]}], "void": [0]},
                ("a", "b"),
                [VOID, 1, 0],
            ),
        ],
    )
    def test_it_can_be_written_in_several_ways(
        self, tmp_path: Path, save: SaveImage, facts: object, classes: tuple[str, ...], ids: list[int]
    ) -> None:
        save("images/a.png")
        save("masks/a.png", np.array([[0, 1, 2, 255]] * 3, np.uint8))
        table = tmp_path / "table.json"
        table.write_text(json.dumps(facts))
        dataset = open_all(tmp_path, f"classes={table}")
        assert dataset.classes == classes
        assert dataset.load(0)[1].tolist() == [[*ids, VOID]] * 3

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is not a JSON file: Expecting value"),
            ("[1]", 'must hold {"classes":'),
            ('{"names": []}', 'must hold {"classes":'),
            ('{"classes": {}}', "has 0 classes: there must be 1 to 255"),
            ('{"classes": {"a": "red"}}', "'a' must have a number 0..65535 or a colour like #6EC1E4, got 'red'"),
            ('{"classes": {"a": 65536}}', "'a' must have a number"),
            ('{"classes": {"a": -1}}', "'a' must have a number"),
            ('{"classes": {"a": true}}', "'a' must have a number"),
            ('{"classes": {"a": {}}}', "'a' must have a number"),
            ('{"classes": {"a": 1, "b": 1}}', "1 is declared for a and b"),
            ('{"classes": {"a": "#010203", "b": [1, 2, 3]}}', "#010203 is declared for a and b"),
            ('{"classes": {"a": 1}, "void": [1]}', "1 is declared for a and void"),
            ('{"classes": {"a": 1}, "void": 1}', '"void" must be a list'),
            ('{"classes": ["a", "a"]}', "every class needs a unique name, got 'a'"),
            ('{"classes": [{"id": 1}]}', "every class needs a unique name, got None"),
            ('{"classes": [1]}', "every class needs a unique name"),
        ],
    )
    def test_a_wrong_one_is_refused_in_one_line_with_its_name(
        self, tmp_path: Path, save: SaveImage, text: str, message: str
    ) -> None:
        save("images/a.png")
        save("masks/a.png", IDS)
        table = tmp_path / "table.json"
        table.write_text(text)
        with pytest.raises(DatasetError) as caught:
            open_all(tmp_path, f"classes={table}")
        assert message in str(caught.value)
        assert "table.json" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"cannot read the class mapping .*no.json: No such file"):
            open_all(tmp_path, f"classes={tmp_path}/no.json")

    @pytest.mark.parametrize("text", ["a+a", "a++b", "a:", "a:red", "a:#12345", "a:99999999", ":1"])
    def test_a_wrong_inline_text_is_refused(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(DatasetError, match="must be a new name, optionally with a number or colour"):
            open_all(tmp_path, f"classes={text}")

    def test_an_unknown_class_cannot_be_void(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="void=c: there is no such class; there are a, b"):
            open_all(tmp_path, "classes=a+b,void=c")

    def test_classes_without_colours_get_distinct_ones_that_a_model_file_takes(
        self, tmp_path: Path, save: SaveImage
    ) -> None:
        save("images/a.png")
        save("masks/a.png", IDS)
        dataset = open_all(tmp_path, f"classes={'+'.join(f'c{i}' for i in range(40))}")
        assert len(set(dataset.palette)) == 40
        ModelSpec("m", dataset.classes, dataset.palette, (64, 64))

    def test_a_data_set_can_be_sent_to_the_workers_of_a_training(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        save("masks/a.png", painted(IDS % 2, [RED, BLUE]))
        dataset = open_all(tmp_path, TestMasksOfColours.OPTIONS)
        before = dataset.load(0)[1]
        sent = pickle.dumps(dataset)
        assert len(sent) < 10_000, "the look-up table of all colours stays here"
        np.testing.assert_array_equal(pickle.loads(sent).load(0)[1], before)


class TestMatching:
    def test_names_are_matched_whatever_the_file_types(self, tmp_path: Path, save: SaveImage) -> None:
        for name, mask in (("b.png", "b.png"), ("a10.jpg", "a10.bmp"), ("a2.tif", "a2.PNG")):
            save(f"images/{name}")
            save(f"masks/{mask}", IDS)
        (tmp_path / "masks" / "notes.txt").write_text("")
        (tmp_path / "images" / ".hidden.png").write_text("")
        dataset = open_all(tmp_path, "classes=a+b+c")
        titles = [Path(dataset.title(index)).name for index in range(len(dataset))]
        assert titles == ["a2.tif", "a10.jpg", "b.png"]
        assert dataset.name == f"{tmp_path.name} train (3 images)"
        assert dataset.licence == f"{tmp_path.name}: not stated"

    def test_a_suffix_of_the_masks_is_taken_off_even_in_one_folder(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        save("images/a_mask.png", IDS)
        save("images/a_other.jpg")
        text = f"pairs:{tmp_path}/images,{tmp_path}/images,classes=a+b+c,mask_suffix=_mask,val=0"
        dataset = open_dataset(f"{text},missing=skip", "train")
        assert len(dataset) == 1
        np.testing.assert_array_equal(dataset.load(0)[1], IDS)
        with pytest.raises(DatasetError, match=r"a_other.jpg has no mask 'a_other' in"):
            open_dataset(text, "train")

    def test_the_name_matched_by_a_wildcard_is_part_of_the_key(self, tmp_path: Path, save: SaveImage) -> None:
        for tile, value in (("Tile 1", 1), ("Tile 2", 2)):
            save(f"{tile}/images/a.png")
            save(f"{tile}/masks/a.png", np.full((3, 4), value, np.uint8))
        (tmp_path / "empty").mkdir()
        text = f"pairs:{tmp_path}/*/images,{tmp_path}/*/masks,classes=a+b+c,val=Tile 2/*"
        train, val = open_dataset(text, "train"), open_dataset(text, "val")
        assert (train.load(0)[1] == 1).all()
        assert (val.load(0)[1] == 2).all()
        assert (len(train), len(val)) == (1, 1)

    def test_a_folder_whose_name_looks_like_a_pattern_is_taken_by_its_name(
        self, tmp_path: Path, save: SaveImage
    ) -> None:
        save("data [old]/images/a.png")
        save("data [old]/masks/a.png", IDS)
        assert len(open_all(tmp_path / "data [old]", "classes=a+b+c")) == 1

    def test_the_split_can_be_a_folder(self, tmp_path: Path, save: SaveImage) -> None:
        for split in ("train", "val"):
            save(f"{split}/images/{split}.png")
            save(f"{split}/masks/{split}.png", IDS)
        text = f"pairs:{tmp_path}/{{split}}/images,{tmp_path}/{{split}}/masks,classes=a+b+c"
        for split in ("train", "val"):
            assert Path(open_dataset(text, split).title(0)).name == f"{split}.png"
        with pytest.raises(DatasetError, match=r"cannot read the folder .*/test/images"):
            open_dataset(text, "test")
        with pytest.raises(OptionError, match="defines the splits: leave out val, test, lists"):
            open_dataset(f"{text},val=0.5", "train")

    @pytest.mark.parametrize(
        ("gone", "message"), [("masks/b.png", "images/b.png has no mask 'b'"), ("images/b.png", "masks/b.png has no")]
    )
    def test_a_file_without_partner_is_an_error_unless_it_may_be_skipped(
        self, tmp_path: Path, save: SaveImage, gone: str, message: str
    ) -> None:
        for name in "ab":
            save(f"images/{name}.png")
            save(f"masks/{name}.png", IDS)
        (tmp_path / gone).unlink()
        with pytest.raises(DatasetError, match=message):
            open_all(tmp_path, "classes=a+b+c")
        assert len(open_all(tmp_path, "classes=a+b+c,missing=skip")) == 1

    def test_the_split_of_a_folder_labelled_in_part_is_made_of_what_is_labelled(
        self, tmp_path: Path, save: SaveImage
    ) -> None:
        for number in range(20):
            save(f"images/{number}.png")
        for number in (3, 4):
            save(f"masks/{number}.png", IDS)
        text = f"pairs:{tmp_path}/images,{tmp_path}/masks,classes=a+b+c,missing=skip"
        assert [len(open_dataset(text, split)) for split in ("train", "val")] == [1, 1]

    def test_of_many_unmatched_files_one_is_named_and_the_rest_counted(self, tmp_path: Path, save: SaveImage) -> None:
        for name in "abc":
            save(f"images/{name}.png")
        save("masks/a.png", IDS)
        with pytest.raises(DatasetError, match=r"b.png has no mask 'b' .* \(and 1 more: see `rtseg data check`\)"):
            open_all(tmp_path, "classes=a+b+c")

    def test_two_images_of_one_name_are_refused(self, tmp_path: Path, save: SaveImage) -> None:
        for name in ("a.png", "a.jpg"):
            save(f"images/{name}")
        save("masks/a.png", IDS)
        with pytest.raises(DatasetError, match=r"two images have the name 'a': .*a.jpg and a.png"):
            open_all(tmp_path, "classes=a+b+c")

    def test_a_folder_without_images_is_refused(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        (tmp_path / "masks").mkdir()
        with pytest.raises(DatasetError, match=f"there are no masks in {tmp_path}/masks"):
            open_all(tmp_path, "classes=a+b")
        with pytest.raises(DatasetError, match=r"there is no folder .*/t\*/masks"):
            open_dataset(f"pairs:{tmp_path}/images,{tmp_path}/t*/masks,classes=a", "train")


class TestSplits:
    @pytest.fixture
    def ten(self, tmp_path: Path, save: SaveImage) -> Path:
        for number in range(10):
            save(f"images/{number}.png")
            save(f"masks/{number}.png", IDS)
        return tmp_path

    def names(self, tmp_path: Path, options: str, split: str) -> set[str]:
        text = f"pairs:{tmp_path}/images,{tmp_path}/masks,classes=a+b+c{options}"
        dataset = open_dataset(text, split)
        return {Path(dataset.title(index)).stem for index in range(len(dataset))}

    def test_a_fifth_is_for_validation_and_always_the_same(self, ten: Path) -> None:
        train, val = self.names(ten, "", "train"), self.names(ten, "", "val")
        assert val == {"9", "8"}, "the two whose SHA-256 is lowest"
        assert train == {str(i) for i in range(10)} - val

    def test_an_added_image_moves_at_most_one_other(self, ten: Path, save: SaveImage) -> None:
        before = self.names(ten, "", "val")
        save("images/new.png")
        save("masks/new.png", IDS)
        assert len(before - self.names(ten, "", "val")) <= 1

    def test_even_two_images_are_split_in_two(self, tmp_path: Path, save: SaveImage) -> None:
        for name in "ab":
            save(f"images/{name}.png")
            save(f"masks/{name}.png", IDS)
        assert self.names(tmp_path, "", "train") | self.names(tmp_path, "", "val") == {"a", "b"}

    def test_the_shares_can_be_chosen(self, ten: Path) -> None:
        parts = [self.names(ten, ",val=0.3,test=0.2", split) for split in ("train", "val", "test")]
        assert [len(part) for part in parts] == [5, 3, 2]
        assert set.union(*parts) == {str(i) for i in range(10)}
        assert len(self.names(ten, ",val=1", "val")) == len(self.names(ten, ",val=0", "train")) == 10

    def test_patterns_choose_by_name_and_shares_take_of_the_rest(self, ten: Path) -> None:
        assert self.names(ten, ",val=[12]+9", "val") == {"1", "2", "9"}
        assert not self.names(ten, ",val=[12]+9,test=0.5", "test") & {"1", "2", "9"}

    @pytest.mark.parametrize(
        ("options", "split"), [("", "test"), (",val=0", "val"), (",val=1", "train"), (",val=x*", "val")]
    )
    def test_an_empty_split_is_refused_with_the_sizes_of_all_splits(self, ten: Path, options: str, split: str) -> None:
        with pytest.raises(DatasetError, match=rf"the split '{split}' is empty \(train \d+, val \d+, test 0\)"):
            self.names(ten, options, split)

    @pytest.mark.parametrize("share", ["1.5", "-0.1", "nan"])
    def test_a_share_must_lie_between_0_and_1(self, ten: Path, share: str) -> None:
        with pytest.raises(OptionError, match=r"val must be a share in \[0, 1\] or a pattern"):
            self.names(ten, f",val={share}", "val")

    def test_an_unknown_split_is_refused(self, ten: Path) -> None:
        with pytest.raises(DatasetError, match="the data have the splits train, val, test; got 'dev'"):
            self.names(ten, "", "dev")

    def test_lists_define_the_splits_and_leave_out_the_rest(self, ten: Path) -> None:
        (ten / "dev.txt").write_text("3\n7.png\n\n")
        (ten / "masks" / "0.png").unlink()
        assert self.names(ten, f",lists={ten}", "dev") == {"3", "7"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "cannot read .*val.txt .*: lists= needs a folder with this file"),
            ("\n\n", "val.txt names no image"),
            ("3\n11\n", "val.txt, line 2: there is no image '11'"),
        ],
    )
    def test_a_wrong_list_is_refused(self, ten: Path, text: str | None, message: str) -> None:
        if text is not None:
            (ten / "val.txt").write_text(text)
        with pytest.raises(DatasetError, match=message):
            self.names(ten, f",lists={ten}", "val")

    def test_lists_and_shares_cannot_be_combined(self, ten: Path) -> None:
        with pytest.raises(OptionError, match="lists= defines the splits: leave out val= and test="):
            self.names(ten, f",lists={ten},val=0.2", "val")


class TestSizes:
    @pytest.mark.parametrize(("size", "shared_size"), [((3, 5), (3, 4)), ((2, 4), (2, 4)), ((4, 3), (3, 3))])
    def test_a_pixel_more_or_less_is_cut_off_where_it_is_tolerated(
        self, tmp_path: Path, save: SaveImage, size: tuple[int, int], shared_size: tuple[int, int]
    ) -> None:
        mask = np.random.default_rng(0).integers(0, 3, size, dtype=np.uint8)
        path = save("images/a.png")
        save("masks/a.png", mask)
        message = rf"masks/a.png is {size[0]}x{size[1]}, its image .*a.png 3x4"
        with pytest.raises(DatasetError, match=message):
            open_all(tmp_path, "classes=a+b+c").load(0)
        image, labels = open_all(tmp_path, "classes=a+b+c,tolerance=1").load(0)
        assert image.shape[:2] == labels.shape == shared_size
        height, width = shared_size
        np.testing.assert_array_equal(labels, mask[:height, :width])
        np.testing.assert_array_equal(image, cv2.imread(str(path))[:height, :width])

    def test_two_pixels_are_too_many_for_a_tolerance_of_one(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        save("masks/a.png", np.zeros((3, 6), np.uint8))
        with pytest.raises(DatasetError, match="is 3x6, its image"):
            open_all(tmp_path, "classes=a,tolerance=1").load(0)

    def test_a_turned_mask_points_to_the_exif_tag(self, tmp_path: Path, save: SaveImage) -> None:
        save("images/a.png")
        save("masks/a.png", np.zeros((4, 3), np.uint8))
        with pytest.raises(DatasetError, match=r"is 4x3, its image .* 3x4: its EXIF tag rotates the image"):
            open_all(tmp_path, "classes=a").load(0)


class TestDamagedFiles:
    @pytest.fixture
    def pair(self, tmp_path: Path, save: SaveImage) -> Path:
        save("images/a.jpg", size=(40, 40))
        save("masks/a.png", np.random.default_rng(0).integers(0, 3, (40, 40), dtype=np.uint8))
        return tmp_path

    def refusal(self, root: Path) -> str:
        with pytest.raises(DatasetError) as caught:
            open_all(root, "classes=a+b+c").load(0)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("keep", [0, 60, 200, -1, -12])
    def test_a_cut_mask_is_found(self, pair: Path, keep: int) -> None:
        mask = pair / "masks" / "a.png"
        mask.write_bytes(mask.read_bytes()[:keep])
        assert str(mask) in self.refusal(pair)

    def test_a_changed_byte_of_a_mask_is_found(self, pair: Path) -> None:
        mask = pair / "masks" / "a.png"
        data = bytearray(mask.read_bytes())
        data[len(data) // 2] ^= 1
        mask.write_bytes(data)
        assert f"{mask} is damaged: the checksum of a chunk is wrong" in self.refusal(pair)

    def test_a_mask_as_jpeg_is_refused_whatever_its_name(self, pair: Path) -> None:
        (pair / "masks" / "a.png").write_bytes((pair / "images" / "a.jpg").read_bytes())
        assert "is a JPEG, which does not store exact values: save masks as PNG" in self.refusal(pair)

    def test_a_number_beyond_the_palette_is_found(self, pair: Path) -> None:
        png(pair / "masks" / "a.png", np.full((40, 40), 2, np.uint8), 2, 3, bytes(6))
        assert "its palette has 2 colours, a pixel uses 2" in self.refusal(pair)

    def test_a_cut_image_is_found(self, pair: Path) -> None:
        image = pair / "images" / "a.jpg"
        image.write_bytes(image.read_bytes()[:-100])
        assert f"{image} is damaged or cut off" in self.refusal(pair)

    @pytest.mark.parametrize("gone", ["images/a.jpg", "masks/a.png"])
    def test_a_file_that_went_away_is_named(self, pair: Path, gone: str) -> None:
        dataset = open_all(pair, "classes=a+b+c")
        (pair / gone).unlink()
        with pytest.raises(DatasetError, match=f"cannot read the .*{gone}: No such file"):
            dataset.load(0)


class TestGrammar:
    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ("a", "IMAGES and MASKS must be given, got 'a'"),
            ("a,b", "classes= is needed"),
            ("a,b,c,classes=x", "IMAGES and MASKS must be given, got 'a', 'b', 'c'"),
            ("a,,classes=x", "IMAGES and MASKS must be given"),
            ("a,b,classes=", "classes has no value"),
            ("a,b,classes=x,classes=y", "classes is given twice"),
            ("a,b,klasses=x", "there is no option 'klasses'"),
            ("run=1,b,classes=x", r"write a path of this form as ./run=1"),
            ("a,b,classes=x,tolerance=-1", "tolerance must be an integer of at least 0, got '-1'"),
            ("a,b,classes=x,undeclared=maybe", "undeclared must be error or void, got 'maybe'"),
            ("a,b,classes=x,missing=maybe", "missing must be error or skip, got 'maybe'"),
            ('"a,b', "cannot be read"),
        ],
    )
    def test_a_wrong_text_is_refused_with_how_it_is_written(
        self, tmp_path: Path, save: SaveImage, monkeypatch: pytest.MonkeyPatch, argument: str, message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        save("a/1.png")
        save("b/1.png", IDS)
        with pytest.raises(OptionError, match=message) as caught:
            open_dataset(f"pairs:{argument}", "train")
        assert "write pairs:IMAGES,MASKS[,classes=..]" in str(caught.value)

    def test_a_path_with_a_comma_is_put_in_quotes(self, tmp_path: Path, save: SaveImage) -> None:
        save("a,b/images/a.png")
        save("a,b/masks/a.png", IDS)
        root = tmp_path / "a,b"
        assert len(open_dataset(f'pairs:"{root}/images","{root}/masks",classes=a+b+c,val=0', "train")) == 1

    def test_the_home_folder_is_understood(
        self, tmp_path: Path, save: SaveImage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        save("images/a.png")
        save("masks/a.png", IDS)
        assert len(open_dataset("pairs:~/images,~/masks,classes=a+b+c,val=0", "train")) == 1


class TestDubai:
    def text(self, shared: Path, options: str = ",void=#000000", table: str = "mask_colours.json") -> str:
        root = shared / "data" / "aerial_dubai"
        return f"pairs:{root}/*/images,{root}/*/masks,classes={root}/{table},val=Tile 3/*{options}"

    def test_tiles_1_and_2_are_for_training_and_tile_3_for_validation(self, shared: Path) -> None:
        train, val = (open_dataset(self.text(shared), split) for split in ("train", "val"))
        assert (len(train), len(val)) == (18, 9)
        assert train.classes == ("Building", "Land (unpaved area)", "Road", "Vegetation", "Water", "Unlabeled")
        assert train.palette[0] == (0x3C, 0x10, 0x98)
        assert train.name == "aerial_dubai train (18 images)"
        sizes = {train.load(index)[1].shape for index in (0, 3, 9, 10)}
        assert sizes == {(644, 797), (643, 797), (544, 509), (544, 510)}

    def test_palette_masks_and_rgb_masks_agree_with_pillow(self, shared: Path) -> None:
        pillow = pytest.importorskip("PIL.Image")
        train = open_dataset(self.text(shared), "train")
        for index in (0, 9):  # RGB, palette
            image = Path(train.title(index))
            with pillow.open(image.parent.parent / "masks" / f"{image.stem}.png") as mask:
                rgb = np.asarray(mask.convert("RGB"))
            labels = train.load(index)[1]
            np.testing.assert_array_equal(np.array(train.palette, np.uint8)[labels], rgb)

    def test_the_undeclared_black_is_an_error_until_it_is_made_void(self, shared: Path) -> None:
        strict = open_dataset(self.text(shared, options=""), "val")
        for index, pixels in ((5, 302), (6, 4)):
            with pytest.raises(
                DatasetError, match=rf"Tile 3/masks/image_part_00{index + 1}.png holds #000000 \({pixels} "
            ):
                strict.load(index)
            labels = open_dataset(self.text(shared), "val").load(index)[1]
            assert (labels == VOID).sum() == pixels

    def test_unlabeled_can_be_void_by_name(self, shared: Path) -> None:
        train = open_dataset(self.text(shared, options=",void=#000000+Unlabeled"), "train")
        assert len(train.classes) == 5
        assert (train.load(0)[1] == VOID).sum() == 7920

    def test_the_wrong_table_is_found_out_by_the_first_mask(self, shared: Path) -> None:
        with pytest.raises(RtsegError, match=r"holds #8429F6 .* which classes.json does not declare"):
            open_dataset(self.text(shared, table="classes.json"), "train").load(0)
