from __future__ import annotations

import importlib.util
import struct
import sys
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from rtseg.errors import MissingExtra
from rtseg.image_io.decode import ImageError, to_bgr
from rtseg.image_io.decoders import DecodeOptions, Decoder, open_decoder
from rtseg.image_io.options import DECODERS
from rtseg.system.opencv import cv2

# Superseded by torchcodec since torchvision 0.29, which still works.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities:DeprecationWarning")

LIBRARIES = {"cv2": "cv2", "pil": "PIL", "turbojpeg": "simplejpeg", "torchvision": "torchvision"}


@pytest.fixture(params=DECODERS)
def decode(request: pytest.FixtureRequest) -> Decoder:
    name: str = request.param
    if importlib.util.find_spec(LIBRARIES[name]) is None:
        pytest.skip(f"needs {LIBRARIES[name]}")
    return open_decoder(name)


def make_image(channels: int, dtype: type = np.uint8, size: tuple[int, int] = (24, 40)) -> NDArray[np.generic]:
    """A smooth image, which JPEG preserves, and which differs in every direction and channel."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    planes = [rows * 3 + columns, 230 - rows * 2 - columns, 60 + columns * 3 - rows][:channels]
    pixels = np.stack(planes, axis=2).astype(np.uint8).astype(dtype)
    return pixels * 257 if dtype is np.uint16 else pixels


def encoded(suffix: str, pixels: NDArray[np.generic]) -> bytes:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(suffix, pixels, quality if suffix == ".jpg" else [])
    assert done
    return data.tobytes()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".bmp", ".webp", ".ppm"])
def test_every_format_decodes_alike_in_every_library(decode: Decoder, suffix: str, channels: int) -> None:
    pixels = make_image(channels)
    suffix = ".pgm" if (suffix, channels) == (".ppm", 1) else suffix
    found = decode(encoded(suffix, pixels), DecodeOptions())
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    expected = pixels if found.shape[2] == channels else np.repeat(pixels, 3, axis=2)  # WebP has no grey
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (0 if suffix not in (".jpg", ".webp") else 6)


def _odd_files() -> dict[str, bytes]:
    grey = make_image(1)[..., 0]
    files = {
        "maximum 15": b"P5 4 1 15\n" + bytes([0, 5, 10, 15]),
        "maximum 4095": b"P5 3 1 4095\n" + np.array([0, 2047, 4095], ">u2").tobytes(),
        "16-bit colours": encoded(".png", make_image(3, np.uint16)),
        "16-bit tiff": encoded(".tiff", make_image(3, np.uint16)),
    }
    for name, image, options in (
        ("palette", PIL.Image.fromarray(grey).convert("RGB").quantize(16), {}),
        ("one bit", PIL.Image.fromarray(grey > 100), {}),
        ("palette with transparency", PIL.Image.fromarray(grey).convert("RGB").quantize(16), {"transparency": 0}),
        ("grey with transparency", PIL.Image.fromarray(grey), {"transparency": int(grey[0, 0])}),
    ):
        out = BytesIO()
        image.save(out, "PNG", **options)
        files[name] = out.getvalue()
    for orientation in (3, 6):
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        for kind in ("PNG", "TIFF", "WEBP"):
            out = BytesIO()
            image = PIL.Image.fromarray(make_image(3))
            tag = {"tiffinfo": exif} if kind == "TIFF" else {"exif": exif}
            image.save(out, kind, **tag, **({"lossless": True} if kind == "WEBP" else {}))
            files[f"{kind} of orientation {orientation}"] = out.getvalue()
    return files


@pytest.mark.parametrize("name", sorted(_odd_files()))
def test_an_odd_file_decodes_alike_in_every_library(decode: Decoder, name: str) -> None:
    data = _odd_files()[name]
    expected, found = (to_bgr(decoder(data, DecodeOptions())) for decoder in (open_decoder("cv2"), decode))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("suffix", "channels"), [(".png", 1), (".png", 3), (".tiff", 1), (".pgm", 1)])
def test_16_bits_are_reduced_to_the_high_byte(decode: Decoder, suffix: str, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 11, channels), dtype=np.uint16)
    np.testing.assert_array_equal(decode(encoded(suffix, values), DecodeOptions()), values >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_rotated_as_by_cv2(decode: Decoder, orientation: int, channels: int) -> None:
    data = encoded(".jpg", make_image(channels))
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHII", 0x0112, 3, 1, orientation) + bytes(4)
    exif = b"Exif\x00\x00" + tiff
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    found = decode(data, DecodeOptions())
    assert found.shape == (*expected.shape[:2], channels)
    assert np.abs(found.astype(int) - expected[..., :channels]).max() <= 4


@pytest.mark.parametrize("reduce", [2, 4, 8])
def test_reduced_jpegs_have_equal_size_and_content(reduce: int) -> None:
    data = encoded(".jpg", make_image(3, size=(50, 70)))
    found = {}
    for name in ("cv2", "pil", "turbojpeg"):
        pytest.importorskip(LIBRARIES[name])
        found[name] = open_decoder(name)(data, DecodeOptions(reduce=reduce))
        assert found[name].shape == (-(-50 // reduce), -(-70 // reduce), 3)
        assert np.abs(found[name].astype(int) - found["cv2"]).max() <= 6


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".bmp", ".webp", ".ppm"])
@pytest.mark.parametrize("kept", [0, 1, 20, 0.5, 0.95])
def test_a_truncated_file_is_refused(decode: Decoder, suffix: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    data = encoded(suffix, noise)
    with pytest.raises(ImageError, match="is damaged"):
        decode(data[: int(kept * len(data)) if isinstance(kept, float) else kept], DecodeOptions())


def test_a_too_large_image_is_refused_before_decoding(decode: Decoder) -> None:
    with pytest.raises(ImageError, match="has 24x40 pixels, more than --max-pixels allows, 959"):
        decode(encoded(".png", make_image(3)), DecodeOptions(max_pixels=959))
    assert decode(encoded(".png", make_image(3)), DecodeOptions(max_pixels=960)).shape == (24, 40, 3)


def test_cmyk_is_refused(decode: Decoder) -> None:
    image = pytest.importorskip("PIL.Image").new("CMYK", (8, 8))
    data = BytesIO()
    image.save(data, "JPEG")
    with pytest.raises(ImageError, match="is a CMYK image"):
        decode(data.getvalue(), DecodeOptions())


def test_alpha_is_ignored(decode: Decoder) -> None:
    pixels = np.dstack([make_image(3), np.full((24, 40), 9, np.uint8)])
    np.testing.assert_array_equal(decode(encoded(".png", pixels), DecodeOptions()), pixels[..., :3])


@pytest.mark.parametrize("name", ["pil", "turbojpeg", "torchvision"])
def test_a_missing_library_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, LIBRARIES[name], None)
    if name == "torchvision":
        monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=rf"--decoder {name} needs the package .*pip install 'rtseg\["):
        open_decoder(name)
