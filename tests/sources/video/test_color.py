from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.sources import open_source
from rtseg.sources.video.color import BgrConverter

BT709, UNSPECIFIED, BT601, BT2020 = 1, 2, 6, 9
LIMITED, FULL = 1, 2
# Weights of red and blue in luma: ITU-R BT.709, BT.601, BT.2020.
WEIGHTS = {BT709: (0.2126, 0.0722), BT601: (0.299, 0.114), BT2020: (0.2627, 0.0593)}
COLOURS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
    (128, 128, 128),
    (200, 120, 40),
    (30, 80, 220),
]


def yuv(rgb: tuple[int, int, int], matrix: int, colour_range: int, bits: int) -> list[int]:
    """Y'CbCr of an R'G'B' colour, quantized as the ITU recommends."""
    red_weight, blue_weight = WEIGHTS[matrix]
    red, green, blue = (value / 255 for value in rgb)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    cb, cr = (blue - luma) / (2 - 2 * blue_weight), (red - luma) / (2 - 2 * red_weight)
    scale, most = 2 ** (bits - 8), 2**bits - 1
    if colour_range == FULL:
        values = (luma * most, cb * most + 128 * scale, cr * most + 128 * scale)
    else:
        values = ((16 + 219 * luma) * scale, (128 + 224 * cb) * scale, (128 + 224 * cr) * scale)
    return [min(round(value), most) for value in values]


def uniform(pix_fmt: str, values: list[int], bits: int, size: tuple[int, int]) -> av.VideoFrame:
    frame = av.VideoFrame(*size, pix_fmt)
    dtype = np.dtype(np.uint8 if bits == 8 else "<u2")
    for plane, value in zip(frame.planes, values, strict=True):
        plane.update(np.full(plane.buffer_size // dtype.itemsize, value, dtype).tobytes())
    return frame


@pytest.mark.parametrize(("pix_fmt", "bits"), [("yuv420p", 8), ("yuv444p", 8), ("yuv420p10le", 10)])
@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("colour_range", [LIMITED, FULL])
def test_colours_are_recovered_according_to_the_tags(
    pix_fmt: str, bits: int, matrix: int, colour_range: int, tmp_path: Path
) -> None:
    path = tmp_path / "colours.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = colour_range
        for number, colour in enumerate(COLOURS):
            frame = uniform(pix_fmt, yuv(colour, matrix, colour_range, bits), bits, (64, 48))
            frame.pts, frame.time_base = number, Fraction(1, 10)
            frame.colorspace, frame.color_range = matrix, colour_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    images = [frame.image for frame in open_source(path)]
    assert len(images) == len(COLOURS)
    for image, colour in zip(images, COLOURS, strict=True):
        assert np.abs(image.astype(int) - colour[::-1]).max() <= 3


@pytest.mark.parametrize(("lines", "matrix"), [(480, BT601), (718, BT601), (720, BT709), (1080, BT709)])
def test_without_tags_the_height_selects_the_matrix(lines: int, matrix: int) -> None:
    frame = uniform("yuv420p", yuv((200, 120, 40), matrix, LIMITED, 8), 8, (64, lines))
    assert frame.colorspace == UNSPECIFIED
    assert np.abs(BgrConverter()(frame).astype(int) - (40, 120, 200)).max() <= 3


@pytest.mark.parametrize(
    "pix_fmt",
    ["nv12", "yuvj420p", "yuv422p", "yuv444p12le", "yuyv422", "p010le", "rgb24", "bgr24", "rgba", "gbrp", "bgr0"],
)
@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_every_pixel_format_gives_bgr(pix_fmt: str, size: tuple[int, int]) -> None:
    image = np.empty((size[1], size[0], 3), np.uint8)
    image[...] = (40, 120, 200)
    frame = av.VideoFrame.from_ndarray(image, "bgr24").reformat(format=pix_fmt)
    result = BgrConverter()(frame)
    assert (result.shape, result.dtype) == (image.shape, np.uint8)
    assert np.abs(result[4:-4, 4:-4].astype(int) - image[4:-4, 4:-4]).max() <= 4


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "gray16le", "ya8"])
def test_grey_stays_grey(pix_fmt: str) -> None:
    image = np.full((48, 64, 3), 90, np.uint8)
    frame = av.VideoFrame.from_ndarray(image, "bgr24").reformat(format=pix_fmt)
    assert np.abs(BgrConverter()(frame).astype(int) - 90).max() <= 1


def test_a_converter_supports_a_change_of_size_and_tags() -> None:
    convert = BgrConverter()
    for size, matrix in (((64, 48), BT601), ((128, 96), BT709), ((64, 48), BT709)):
        frame = uniform("yuv420p", yuv((30, 80, 220), matrix, LIMITED, 8), 8, size)
        frame.colorspace = matrix
        result = convert(frame)
        assert result.shape == (size[1], size[0], 3)
        assert np.abs(result.astype(int) - (220, 80, 30)).max() <= 3


def test_real_frames_match_the_exact_conversion(shared: Path) -> None:
    """Compare with the formulas of BT.709 in floating point, with nearest chroma samples."""
    with av.open(str(shared / "data/videos_driving/carnd_vehicle_test_video.mp4")) as container:
        frame = next(container.decode(video=0))
    assert frame.colorspace == BT709
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].astype(float)
        for plane in frame.planes
    ]
    luma = (planes[0] - 16) / 219
    cb, cr = (np.kron(plane - 128, np.ones((2, 2))) / 224 for plane in planes[1:])
    red_weight, blue_weight = WEIGHTS[BT709]
    red, blue = luma + (2 - 2 * red_weight) * cr, luma + (2 - 2 * blue_weight) * cb
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    exact = np.clip(np.rint(np.dstack([blue, green, red]) * 255), 0, 255)
    assert np.abs(BgrConverter()(frame) - exact).max() <= 3
