from __future__ import annotations

import struct

import numpy as np
import pytest

from rtseg.image_io.header import ImageHeader, read_header
from rtseg.system.opencv import cv2


def encoded(suffix: str, channels: int, *options: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (23, 37, channels), dtype=np.uint8)
    done, data = cv2.imencode(suffix, pixels, list(options))
    assert done
    return data.tobytes()


@pytest.mark.parametrize(
    ("data", "kind", "channels"),
    [
        (encoded(".png", 1), "png", 1),
        (encoded(".png", 3), "png", 3),
        (encoded(".png", 4), "png", 4),
        (encoded(".jpg", 1), "jpeg", 1),
        (encoded(".jpg", 3), "jpeg", 3),
        (encoded(".jpg", 3, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "jpeg", 3),
        (encoded(".tiff", 1), "tiff", 1),
        (encoded(".tiff", 3), "tiff", 3),
        (encoded(".bmp", 3), "bmp", 3),
        (encoded(".webp", 3, cv2.IMWRITE_WEBP_QUALITY, 80), "webp", 3),
        (encoded(".webp", 3, cv2.IMWRITE_WEBP_QUALITY, 101), "webp", 3),
        (encoded(".webp", 4, cv2.IMWRITE_WEBP_QUALITY, 80), "webp", 4),
        (encoded(".webp", 4, cv2.IMWRITE_WEBP_QUALITY, 101), "webp", 4),
        (encoded(".pgm", 1), "pnm", 1),
        (encoded(".ppm", 3), "pnm", 3),
        (b"P5 # a comment\n#another\n37\t23\n255\n", "pnm", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_format_size_and_channels_are_read(data: bytes, kind: str, channels: int) -> None:
    assert read_header(data) == ImageHeader(kind, 23, 37, channels)


def test_a_top_down_bmp_has_a_positive_height() -> None:
    data = encoded(".bmp", 3)
    assert read_header(data[:22] + struct.pack("<i", -23) + data[26:]) == ImageHeader("bmp", 23, 37, 3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_bigtiff_is_read(order: str) -> None:
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}2sHHHQQ", mark, 43, 8, 0, 16, 3)
    wide = struct.pack(f"{order}HHQQ", 256, 16, 1, 37)
    rest = struct.pack(f"{order}HHQI4x", 257, 4, 1, 23) + struct.pack(f"{order}HHQH6x", 277, 3, 1, 3)
    assert (read_header(head + wide + rest) or ImageHeader("", 0, 0, 0)).channels == 3


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".bmp", ".webp", ".ppm"])
def test_a_truncated_header_is_none(suffix: str) -> None:
    data = encoded(suffix, 3)
    for length in range(60):
        found = read_header(data[:length])
        assert found is None or (found.height, found.width) == (23, 37)


@pytest.mark.parametrize("data", [b"", b"text", b"GIF89a", b"P5 a b", b"P9 1 1 ", b"RIFF1234WEBPVP8?" + bytes(40)])
def test_other_data_have_no_header(data: bytes) -> None:
    assert read_header(data) is None


def test_noise_after_a_valid_signature_does_not_crash() -> None:
    random = np.random.default_rng(1)
    for start in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"II*\x00", b"MM\x00*", b"II+\x00", b"BM", b"RIFFxxxxWEBPVP8 "):
        for _ in range(50):
            found = read_header(start + random.bytes(64))
            assert found is None or found.pixels >= 0
