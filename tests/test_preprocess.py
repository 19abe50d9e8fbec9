from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.errors import ModelError, OptionError
from rtseg.model_file.spec import ModelSpec
from rtseg.preprocess import (
    NEUTRAL,
    Prepare,
    clahe,
    override_steps,
    parse_steps,
    preprocess_notice,
    resize,
    resize_labels,
    subtract_background,
)
from rtseg.synthetic.street import Street

SPEC = ModelSpec("a", ("x",), ((1, 2, 3),), (24, 32))


def prepare(*steps: str) -> Prepare:
    return Prepare(replace(SPEC, preprocess=steps))


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    return Street((120, 160)).render(2.0)[0]


class TestResize:
    def test_an_image_of_the_right_size_is_returned_itself(self, street: np.ndarray) -> None:
        assert resize(street, (120, 160)) is street

    @pytest.mark.parametrize("size", [(24, 32), (60, 80), (120, 100), (240, 320), (30, 300)])
    def test_the_result_has_the_size_and_the_mean_colour(self, street: np.ndarray, size: tuple[int, int]) -> None:
        out = resize(street, size)
        assert (out.dtype, out.shape) == (np.uint8, (*size, 3))
        np.testing.assert_allclose(out.mean((0, 1)), street.mean((0, 1)), atol=3)

    def test_shrinking_to_half_and_less_averages_every_pixel(self) -> None:
        image = np.zeros((40, 60, 3), np.uint8)
        image[::4, ::4] = 240  # one pixel in sixteen
        assert (resize(image, (10, 15)) == 15).all()

    def test_upsampling_is_bilinear_between_pixel_centres(self) -> None:
        image = np.repeat(np.array([0, 100], np.uint8).reshape(1, 2, 1), 3, axis=2)
        np.testing.assert_array_equal(resize(image, (1, 4))[0, :, 0], [0, 25, 75, 100])

    def test_the_image_of_a_source_is_not_written_to(self, street: np.ndarray) -> None:
        before = street.copy()
        prepare("clahe")(street)
        np.testing.assert_array_equal(street, before)


class TestResizeLabels:
    def test_labels_of_the_right_size_are_returned_themselves(self) -> None:
        labels = np.zeros((4, 6), np.uint8)
        assert resize_labels(labels, (4, 6)) is labels

    def test_upsampled_labels_are_neither_mixed_nor_shifted(self) -> None:
        labels = np.array([[0, 9], [200, 255]], np.uint8)
        np.testing.assert_array_equal(resize_labels(labels, (6, 8)), labels.repeat(3, 0).repeat(4, 1))

    def test_shrinking_takes_the_label_at_the_centre(self) -> None:
        labels = np.arange(9, dtype=np.uint8).reshape(1, 9)
        np.testing.assert_array_equal(resize_labels(labels, (1, 3)), [[1, 4, 7]])

    def test_labels_are_not_shifted_if_the_sizes_do_not_divide(self) -> None:
        labels = np.arange(10, dtype=np.uint8).reshape(1, 10)
        centres = ((np.arange(7) + 0.5) * 10 / 7).astype(int)
        np.testing.assert_array_equal(resize_labels(labels, (1, 7)), labels[:, centres])


class TestClahe:
    def test_low_contrast_is_increased(self) -> None:
        rng = np.random.default_rng(0)
        dull = rng.integers(100, 110, (64, 64, 1), dtype=np.uint8).repeat(3, 2)
        assert clahe(dull).std() > 2 * dull.std()

    def test_grey_stays_grey(self) -> None:
        grey = np.random.default_rng(0).integers(0, 255, (64, 64, 1), dtype=np.uint8).repeat(3, 2)
        out = clahe(grey).astype(int)
        assert np.ptp(out, axis=2).max() <= 2

    def test_hue_is_preserved_and_a_higher_limit_changes_more(self, street: np.ndarray) -> None:
        def change(clip: float) -> float:
            return float(np.abs(clahe(street, clip=clip).astype(int) - street).mean())

        assert 0 < change(1.0) < change(8.0)
        a_and_b = [cv2.cvtColor(image, cv2.COLOR_BGR2LAB)[..., 1:].astype(int) for image in (street, clahe(street))]
        assert np.median(np.abs(a_and_b[0] - a_and_b[1])) <= 1

    def test_the_number_of_tiles_changes_the_result(self, street: np.ndarray) -> None:
        assert (clahe(street, tiles=2) != clahe(street, tiles=8)).any()


class TestSubtractBackground:
    def test_pixels_equal_to_the_background_are_neutral(self, street: np.ndarray) -> None:
        assert (subtract_background(street, street) == NEUTRAL).all()

    def test_differences_keep_their_sign_in_every_channel_and_are_clipped(self) -> None:
        image = np.array([[[10, 200, 0], [255, 0, 130]]], np.uint8)
        background = np.array([[[20, 100, 255], [0, 255, 130]]], np.uint8)
        np.testing.assert_array_equal(subtract_background(image, background), [[[118, 228, 0], [255, 0, 128]]])


class TestPrepare:
    def test_without_steps_it_only_resizes(self, street: np.ndarray) -> None:
        np.testing.assert_array_equal(prepare()(street), resize(street, (24, 32)))

    def test_steps_are_applied_in_order_after_resizing(self, street: np.ndarray, tmp_path: Path) -> None:
        background = tmp_path / "still, scene.png"
        cv2.imwrite(str(background), np.full((48, 64, 3), 60, np.uint8))
        small = resize(street, (24, 32))
        still = np.full((24, 32, 3), 60, np.uint8)
        first = prepare("clahe:clip=4,tiles=2", f"background:{background}")(street)
        np.testing.assert_array_equal(first, subtract_background(clahe(small, clip=4, tiles=2), still))
        second = prepare(f"background:{background}", "clahe:clip=4,tiles=2")(street)
        np.testing.assert_array_equal(second, clahe(subtract_background(small, still), clip=4, tiles=2))
        assert (first != second).any()

    @pytest.mark.parametrize(
        ("step", "arguments"),
        [
            ("clahe", {}),
            ("clahe:clip=3", {"clip": 3}),
            ("clahe:tiles=4", {"tiles": 4}),
            ("clahe:tiles=4,clip=1.5", {"tiles": 4, "clip": 1.5}),
        ],
    )
    def test_clahe_accepts_any_subset_of_its_arguments_in_any_order(
        self, street: np.ndarray, step: str, arguments: dict[str, float]
    ) -> None:
        np.testing.assert_array_equal(prepare(step)(street), clahe(resize(street, (24, 32)), **arguments))

    @pytest.mark.parametrize(
        "step",
        [
            "clahe:clip",
            "clahe:clip=",
            "clahe:clip=much",
            "clahe:clip=0",
            "clahe:clip=-1",
            "clahe:clip=nan",
            "clahe:clip=inf",
            "clahe:tiles=2.5",
            "clahe:tiles=0",
            "clahe:tiles=99999",
            "clahe:limit=3",
            "clahe:clip=2;tiles=8",
        ],
    )
    def test_a_malformed_clahe_step_is_refused_and_quoted(self, step: str) -> None:
        with pytest.raises(ModelError) as caught:
            prepare(step)
        assert f"wrong preprocessing step {step!r}" in str(caught.value)

    @pytest.mark.parametrize("step", ["", "blur", "CLAHE", "background", "background:", "clahe clip=2"])
    def test_an_unknown_step_is_refused_and_the_message_lists_the_known_ones(self, step: str) -> None:
        with pytest.raises(ModelError, match="known are clahe:clip=2,tiles=8 and background:FILE"):
            prepare(step)

    @pytest.mark.parametrize("content", [None, b"", b"no image"])
    def test_a_background_that_cannot_be_read_is_named(self, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "still.png"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(OptionError, match=r"the background image .*still\.png"):
            prepare(f"background:{path}")

    def test_a_background_file_that_would_be_read_by_a_guess_is_refused(self, tmp_path: Path) -> None:
        image = np.full((8, 8, 3), 100, np.uint8)
        assert cv2.imwritemulti(str(tmp_path / "pages.tif"), [image, image])
        cv2.imwrite(str(tmp_path / "dark.png"), image.astype(np.uint16) * 16)
        cv2.imwrite(str(tmp_path / "full.png"), image.astype(np.uint16) * 257)
        with pytest.raises(OptionError, match="contains 2 images: give a file with one"):
            prepare(f"background:{tmp_path / 'pages.tif'}")
        with pytest.raises(OptionError, match="has values up to 1600 of 65535"):
            prepare(f"background:{tmp_path / 'dark.png'}")
        prepare(f"background:{tmp_path / 'full.png'}")


class TestParseSteps:
    @pytest.mark.parametrize(
        ("text", "steps"),
        [
            ("", None),
            (" ", None),
            ("resize", ()),
            ("clahe", ("clahe",)),
            ("resize,clahe:clip=2,tiles=8", ("clahe:clip=2,tiles=8",)),
            ("resize, background:a.png, clahe", ("background:a.png", "clahe")),
            (
                "resize,background:still, scene.png,clahe:clip=2,tiles=8",
                ("background:still, scene.png", "clahe:clip=2,tiles=8"),
            ),
            ("clahe:tiles=4,clip=3,background:a.png,clahe", ("clahe:tiles=4,clip=3", "background:a.png", "clahe")),
        ],
    )
    def test_a_list_is_split_where_a_step_begins(self, text: str, steps: tuple[str, ...] | None) -> None:
        assert parse_steps(text) == steps

    @pytest.mark.parametrize("text", ["clahe,resize", "resize,background:a.png,resize", "resize,resize"])
    def test_resize_is_refused_if_it_is_not_first(self, text: str) -> None:
        with pytest.raises(ModelError, match="resize is always the first preprocessing step, got it after"):
            parse_steps(text)

    @pytest.mark.parametrize("text", ["blur", "clip=2,clahe", ",clahe", "resized,clahe"])
    def test_a_list_must_begin_with_a_step(self, text: str) -> None:
        with pytest.raises(ModelError, match="unknown preprocessing step"):
            parse_steps(text)

    def test_an_unknown_later_step_is_refused_when_it_is_prepared(self) -> None:
        for text in ("resize,blur", "clahe,blur"):
            with pytest.raises(ModelError, match="blur"):
                prepare(*(parse_steps(text) or ()))


class TestResizeInModelFile:
    def test_resize_may_be_the_first_step_of_a_model_file(self, street: np.ndarray) -> None:
        np.testing.assert_array_equal(prepare("resize", "clahe")(street), prepare("clahe")(street))

    def test_resize_is_refused_later_in_a_model_file(self) -> None:
        with pytest.raises(ModelError, match="got it after clahe: put it first"):
            prepare("clahe", "resize")


class TestOverrideSteps:
    OWN = replace(SPEC, preprocess=("clahe",))

    def test_without_an_override_the_model_keeps_its_own_steps(self) -> None:
        assert override_steps(self.OWN, None) is self.OWN
        assert preprocess_notice(self.OWN, self.OWN) == ""

    def test_an_override_with_no_steps_differs_from_no_override(self) -> None:
        used = override_steps(self.OWN, parse_steps("resize"))
        assert used.preprocess == ()
        assert preprocess_notice(self.OWN, used) == "images are prepared by resize; a was trained with resize,clahe"

    def test_an_override_with_the_same_steps_gives_no_notice(self) -> None:
        for own in (self.OWN, replace(SPEC, preprocess=("resize", "clahe"))):
            assert preprocess_notice(own, override_steps(own, parse_steps("resize,clahe"))) == ""


def test_clahe_of_grey_equals_clahe_of_three_equal_channels() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(5, 0).repeat(7, 1)
    for arguments in ({}, {"clip": 40.0, "tiles": 3}):
        np.testing.assert_array_equal(clahe(ramp, **arguments), clahe(ramp.repeat(3, 2), **arguments))


@pytest.mark.parametrize("step", [(), ("clahe:clip=2,tiles=4",)])
@pytest.mark.parametrize("size", [(64, 96), (200, 300), (31, 50)])
def test_grey_gives_the_same_model_input_as_three_equal_channels(
    step: tuple[str, ...], size: tuple[int, int], tiny_spec: ModelSpec
) -> None:
    grey = np.random.default_rng(3).integers(0, 256, (*size, 1), dtype=np.uint8)
    prepare = Prepare(replace(tiny_spec, preprocess=step))
    np.testing.assert_array_equal(prepare(grey), prepare(np.repeat(grey, 3, axis=2)))
