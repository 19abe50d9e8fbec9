from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
from helpers.extra_channel_images import noise, png, tiff
from numpy.typing import NDArray

from rtseg.image_io.decode import ChannelsError, ImageError, decode_image, decode_pages, image_channels, to_bgr
from rtseg.image_io.notes import ImageNotes
from rtseg.system.opencv import cv2

BGRA = [2, 1, 0, 3]
"""Order of the samples of a file that stores R, G, B, other."""


def encoded(suffix: str, pixels: NDArray[np.generic]) -> bytes:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


class TestFourChannels:
    def test_a_png_is_read_as_stored_even_where_transparent(self) -> None:
        pixels = noise(4)
        np.testing.assert_array_equal(decode_image(png(pixels), 4), pixels[..., BGRA])

    @pytest.mark.parametrize("write", [png, tiff])
    def test_16_bits_are_reduced_to_the_high_byte(self, write: object) -> None:
        pixels = noise(4, np.uint16)
        found = decode_image(write(pixels), 4)  # type: ignore[operator]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, (pixels >> 8)[..., BGRA])

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("extra", [None, 0, 1, 2])
    def test_tiff_colours_are_not_multiplied_by_the_fourth_channel(self, order: str, extra: int | None) -> None:
        pixels = noise(4)
        data = tiff(pixels, order=order, extra=extra, wide=extra == 2)
        np.testing.assert_array_equal(decode_image(data, 4), pixels[..., BGRA])

    def test_a_webp_with_alpha_is_read(self) -> None:
        pixels = np.full((16, 16, 4), (10, 60, 200, 90), np.uint8)
        found = decode_image(encoded(".webp", pixels), 4)
        assert np.abs(found.astype(int) - pixels).max() <= 3

    def test_grey_with_alpha_becomes_three_equal_channels_and_alpha(self) -> None:
        pixels = noise(2)
        np.testing.assert_array_equal(decode_image(png(pixels), 4), pixels[..., [0, 0, 0, 1]])

    def test_exif_orientation_is_applied_as_to_three_channels(self) -> None:
        pixels = noise(4)
        turned = decode_image(png(pixels, rotated=True), 4)
        np.testing.assert_array_equal(turned, np.rot90(pixels[..., BGRA], -1))
        np.testing.assert_array_equal(decode_image(png(pixels, rotated=True)), turned[..., :3])


class TestTwoChannels:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_a_png_with_grey_and_alpha_is_read_as_stored(self, dtype: type) -> None:
        pixels = noise(2, dtype)
        np.testing.assert_array_equal(decode_image(png(pixels), 2), pixels >> 8 * (pixels.itemsize - 1))

    def test_colours_become_grey_according_to_itu_r_bt_601(self) -> None:
        pixels = noise(4)
        found = decode_image(png(pixels), 2)
        luma = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])
        assert np.abs(found[..., 0] - luma).max() <= 0.51
        np.testing.assert_array_equal(found[..., 1], pixels[..., 3])


class TestThreeChannels:
    def test_alpha_is_ignored(self) -> None:
        pixels = noise(4)
        np.testing.assert_array_equal(decode_image(png(pixels)), pixels[..., [2, 1, 0]])


class TestRefused:
    @pytest.mark.parametrize("wanted", [2, 4])
    @pytest.mark.parametrize(
        ("suffix", "channels"), [(".png", 1), (".png", 3), (".jpg", 1), (".jpg", 3), (".tiff", 3), (".bmp", 3)]
    )
    def test_a_file_without_the_extra_channel_is_refused_with_its_number_of_channels(
        self, suffix: str, channels: int, wanted: int
    ) -> None:
        data = encoded(suffix, noise(channels))
        with pytest.raises(ChannelsError, match=rf"has {channels} channels?, not the required {wanted}: save"):
            decode_image(data, wanted)

    @pytest.mark.parametrize(
        "data",
        [
            tiff(noise(4), photometric=1),
            tiff(noise(4), planar=2),
            tiff(noise(4, np.uint16), planar=2, order=">"),
            tiff(noise(5)),
        ],
        ids=["bands", "planes", "planes of 16 bits", "five samples"],
    )
    def test_a_tiff_whose_fourth_sample_opencv_does_not_read_as_stored_is_refused(self, data: bytes) -> None:
        with pytest.raises(ChannelsError, match="is a TIFF with bands or separate planes, not with RGBA"):
            decode_image(data, 4)

    @pytest.mark.parametrize("channels", [2, 3, 4])
    def test_cmyk_is_refused(self, channels: int) -> None:
        with pytest.raises(ImageError, match="is a CMYK image"):
            decode_image(tiff(noise(4), photometric=5, extra=None), channels)

    @pytest.mark.parametrize(("order", "mark"), [("<", b"II"), (">", b"MM")])
    def test_a_bigtiff_is_refused(self, order: str, mark: bytes) -> None:
        head = struct.pack(f"{order}2sHHHQQ", mark, 43, 8, 0, 16, 2)
        sizes = b"".join(struct.pack(f"{order}HHQI4x", tag, 4, 1, 9) for tag in (256, 257))
        with pytest.raises(ChannelsError, match="is a BigTIFF"):
            decode_image(head + sizes, 4)

    @pytest.mark.parametrize("write", [png, tiff])
    @pytest.mark.parametrize("kept", [0, 4, 10, 60, 150])
    def test_a_truncated_file_is_reported_as_damaged(self, write: object, kept: int) -> None:
        with pytest.raises(ImageError, match="damaged"):
            decode_image(write(noise(4))[:kept], 4)  # type: ignore[operator]

    @pytest.mark.parametrize("kind", [b"tEXt", b"IDAT", b"eXIf"])
    @pytest.mark.parametrize("decode", [decode_image, lambda data: list(decode_pages(data))])
    def test_a_png_that_claims_a_chunk_larger_than_the_file_is_not_decoded(
        self, kind: bytes, decode: Callable[[bytes], object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("imdecode", "imdecodemulti"):
            monkeypatch.setattr(cv2, name, lambda *_, **__: pytest.fail("the library would allocate 2 GB"))
        data = png(noise(4))
        with pytest.raises(ImageError, match="damaged or cut off"):
            decode(data[:33] + struct.pack(">I4s", (1 << 31) - 1, kind) + data[33:])

    def test_a_jpeg_of_12_bits_is_refused_with_the_reason(self) -> None:
        data = bytearray(encoded(".jpg", np.zeros((8, 8, 3), np.uint8)))
        data[data.index(b"\xff\xc0") + 4] = 12
        with pytest.raises(ImageError, match="is a JPEG with 12 bits per value"):
            decode_image(bytes(data))

    def test_floating_point_pixels_are_refused(self) -> None:
        with pytest.raises(ImageError, match="stores float32, not integers"):
            decode_image(encoded(".tiff", np.ones((4, 4, 4), np.float32)), 4)


class TestShown:
    def test_four_channels_show_their_colours_and_two_their_grey(self) -> None:
        four, two = noise(4), noise(2)
        np.testing.assert_array_equal(to_bgr(four), four[..., :3])
        np.testing.assert_array_equal(to_bgr(two), two[..., [0, 0, 0]])

    def test_three_channels_are_returned_without_a_copy(self) -> None:
        colours = noise(3)
        assert to_bgr(colours) is colours


def test_a_grey_network_takes_bgr_images() -> None:
    assert [image_channels(channels) for channels in (1, 2, 3, 4)] == [3, 2, 3, 4]


class TestBits:
    CAMERA = np.array([[0, 255, 1024, 4095]], np.uint16)
    EXPECTED = np.array([[0, 15, 64, 255]], np.uint8)

    def test_low_values_are_noted_and_the_number_of_bits_is_suggested(self) -> None:
        notes = ImageNotes()
        decode_image(encoded(".png", self.CAMERA), note=notes.for_file("low.png"))
        decode_image(encoded(".png", self.CAMERA * 16), note=notes.for_file("high.png"))
        assert notes.lines == [
            "low.png: values up to 4095 of 65535, so it looks dark: if it has fewer than 16 bits, use --bits 12"
        ]

    def test_the_given_bits_scale_the_values(self) -> None:
        image = decode_image(encoded(".png", self.CAMERA), bits=12)
        np.testing.assert_array_equal(image[..., 0], self.EXPECTED)

    def test_values_of_more_bits_than_given_are_refused(self) -> None:
        with pytest.raises(ImageError, match="has values up to 4095, more than 11 bits can store"):
            decode_image(encoded(".png", self.CAMERA), bits=11)

    def test_a_pgm_is_scaled_by_its_maximum(self) -> None:
        data = b"P5 4 1 4095\n" + self.CAMERA.astype(">u2").tobytes()
        np.testing.assert_array_equal(decode_image(data)[..., 0], self.EXPECTED)
        data = b"P5 3 1 100\n" + bytes([0, 50, 100])
        np.testing.assert_array_equal(decode_image(data)[..., 0], [[0, 127, 255]])

    @pytest.mark.parametrize("scale", ["none", "shift", "linear"])
    def test_sbit_of_a_png_counts_where_the_values_are_not_scaled_yet(self, scale: str) -> None:
        """A PNG must scale the values to 16 bits, but many cameras do not."""
        values = np.array([[0, 7, 250]], np.uint16)
        stored = {"none": values, "shift": values << 4, "linear": np.rint(values * (65535 / 4095)).astype(np.uint16)}
        data = encoded(".png", stored[scale])
        data = data[:33] + png_chunk(b"sBIT", bytes([12])) + data[33:]
        np.testing.assert_array_equal(decode_image(data)[..., 0], [[0, 0, 15]])

    def test_max_sample_value_of_a_tiff_counts(self) -> None:
        out = BytesIO()
        PIL.Image.fromarray(self.CAMERA).save(out, "TIFF", tiffinfo={281: 4095})
        np.testing.assert_array_equal(decode_image(out.getvalue())[..., 0], self.EXPECTED)


class TestPages:
    @pytest.mark.parametrize("kind", ["TIFF", "WEBP", "PNG"])
    def test_every_image_of_a_file_is_decoded(self, kind: str) -> None:
        data = several_images(kind)
        assert [int(page[0, 0, 2]) for page in decode_pages(data)] == [255, 0, 128]
        notes = ImageNotes()
        assert decode_image(data, note=notes.for_file("a"))[0, 0].tolist() == [0, 0, 255]
        assert notes.lines == ["a: 3 images in one file, only the first is used"]

    def test_smaller_copies_in_a_tiff_are_no_pages(self) -> None:
        out = BytesIO()
        full, small = PIL.Image.new("RGB", (8, 8), (255, 0, 0)), PIL.Image.new("RGB", (4, 4))
        small.encoderinfo = {"tiffinfo": {254: 1}}
        full.save(out, "TIFF", save_all=True, append_images=[small])
        assert [page.shape for page in decode_pages(out.getvalue())] == [(8, 8, 3)]

    def test_a_long_animation_is_refused_before_decoding(self) -> None:
        with pytest.raises(ImageError, match="has 3 images of 8x8 pixels, together more than --max-pixels allows, 100"):
            list(decode_pages(several_images("WEBP"), max_pixels=100))


def several_images(kind: str) -> bytes:
    """Red, blue and grey, 8x8."""
    first, *others = (PIL.Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255), (128, 128, 128)))
    out = BytesIO()
    options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
    first.save(out, kind, save_all=True, append_images=others, **options)
    return out.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
