"""Valid inputs of every fuzz target, made by the code of rtseg and its tests, and the words that they consist of.

A fuzzer that begins with noise rarely gets past the first check of a parser.
"""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from fuzz.targets import COCO, EMPTY_RANGES, ENGINE, LABELME, TINY
from helpers.bench_results import storage_result
from helpers.small_graphs import brightest, remembering

from rtseg.image_io.indexed_png import palette_png
from rtseg.sinks.masks import mask_palette

__all__ = ["SEEDS", "WORDS"]


@cache
def _graphs() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return [make(Path(folder) / "a.onnx").read_bytes() for make in (brightest, remembering)]


def _images() -> list[bytes]:
    levels = np.arange(8 * 6 * 4, dtype=np.uint8).reshape(8, 6, 4)
    forms = ((".png", 1), (".png", 3), (".png", 4), (".jpg", 3), (".tif", 3), (".bmp", 3), (".webp", 3), (".ppm", 3))
    encoded = [cv2.imencode(suffix, levels[..., :channels])[1].tobytes() for suffix, channels in forms]
    wide = cv2.imencode(".tif", levels[..., 0].astype(np.uint16) * 257)[1].tobytes()
    pages = cv2.imencodemulti(".tif", [levels[..., :3], levels[..., :3]])[1].tobytes()
    return [*encoded, wide, pages, palette_png(levels[..., 0] % 2, mask_palette(TINY))]


SEEDS: dict[str, list[bytes]] = {
    "metadata": [TINY.to_json().encode(), b'{"preprocess": ["resize", "clahe:clip=2,tiles=8"], "miou": 0.5}'],
    "model_file": _graphs(),
    "model_file_metadata": [TINY.to_json().encode()],
    "graph": [bytes((0, 0, 0, 3, 2, 1)), bytes(range(48)), bytes((7, 9, 1, 4, 0, 0) * 6)],
    "engine_facts": [ENGINE.encode(), b'{"precision": "fp32", "certificate": {"frames": 3}}'],
    "calibration": [EMPTY_RANGES.encode(), b'{"tensors": {"x": [0.0, 1.0]}, "kept": [{"nodes": ["n"], "gain": 0.5}]}'],
    "recipe": [b'model = "icnet.onnx"\nprecision = "fp16"\n', b"size = [64, 96]\nbatch = 2\n"],
    "image_list": [b"a.png\r\nb.png\n# note\n", b"\xef\xbb\xbfx/y z.jpg\n", "a.png\n".encode("utf-16")],
    "boxes": [b"image,x,y,width,height\na.png,1,2,3,4\na.png,,,,\n", b'image,x,y,width,height\n"a,b.png",0,0,9,9\n'],
    "coco": [COCO.encode(), b'{"annotations": []}'],
    "cvat": [
        b'<annotations><image name="labelled.ppm" width="6" height="4"><polygon label="a" points="0,0;3,0;3,2"/>'
        b'<mask label="b" rle="1, 3" left="1" top="1" width="2" height="2"/></image></annotations>',
        b'<annotations><image name="labelled.ppm" width="6" height="4">',
    ],
    "labelme": [LABELME.encode(), b'{"shapes": [{"label": "a", "points": [[1, 1], [2, 2]], "shape_type": "mask"}]}'],
    "class_mapping": [b'{"0": "road", "255": null}', b"road+car=1,sky=0", b'{"classes": ["a", "b"]}'],
    "data_string": [b"pairs:images,masks,classes=road+car,val=0.2", b"synthetic:street,frames=3", b"camvid:CamVid"],
    "options": [b"384x640", b"1/0.4", b"0,2,8", b"a, b, c", b"resize,clahe:clip=2,tiles=8"],
    "preprocessing": [b"resize,clahe:clip=2,tiles=8", b"clahe", b"background:a,b.png,clahe:tiles=4"],
    "bench_result": [json.dumps(storage_result()).encode()],
    "url": [b"@host:554/a?token=b#c", b" b'c", b":/ @x", b"/app/key?x=1;y=2"],
    "source": [b"camera:0?width=1280&height=720&fps=30&fourcc=MJPG", b"demo:3", b"fringes:2", b"rtsp://[::1]:554/a"],
    "path": [b"frame_%05d.png", b"~/a.png", b"a*[0-9].png", b"@list", b"b.txt"],
    "image": _images(),
    "mask": _images(),
}
"""Name of the target -> inputs that it accepts or refuses late."""

_FIELDS = (
    *("name", "classes", "palette", "size", "channels", "preprocess", "extra", "miou", "format", "spec", "targets"),
    *("runtime", "precision", "certificate", "state_shape", "batch", "tensors", "kept", "model", "void", "gpu"),
)
_JSON = (*(f'"{field}"' for field in _FIELDS), "[]", "{}", "null", "true", "1e999", "-0", "NaN", "\\ud800")
_SHAPES = (
    '"annotations"',
    '"segmentation"',
    '"counts"',
    '"shapes"',
    '"points"',
    '"shape_type"',
    '"mask"',
    '"circle"',
    "[[",
)
_STEPS = ("resize,", "clahe:clip=", "tiles=", "background:", "/dev/zero", ",", "=")
_URLS = ("rtsp://", "rtmp://", "http:/", "s3://", "zip://", "::", "[::1", "]", "@", "?", "#", "&", ";", "%40", " ", "'")
_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"acTL", b"fcTL", b"sBIT", b"eXIf", b"tRNS")
_IMAGE = (b"\x89PNG\r\n\x1a\n", *_CHUNKS, b"II*\0", b"MM\0*", b"II+\0", b"Exif\0\0")
WORDS: dict[str, tuple[str | bytes, ...]] = {
    "metadata": _JSON,
    "model_file": ("rtseg", "frames", "labels", "state", "next_state", "Cast", "ArgMax", "Loop", "If"),
    "model_file_metadata": _JSON,
    "graph": (),
    "engine_facts": _JSON,
    "calibration": _JSON,
    "recipe": (*(f"{field} = " for field in _FIELDS), "[a]\n", "'''", "1979-05-27T07:32:00Z", "inf", "0x"),
    "image_list": ("/dev/zero", "\ufeff", "\r\n", "%05d", "@", "#", "~nobody/", "\0", "../"),
    "boxes": ("image,x,y,width,height\n", ",", '"', "\r\n", "\ufeff", "1e3", "-1"),
    "coco": (*_JSON, *_SHAPES),
    "cvat": ("<box ", 'label="a" ', 'rle="', 'points="', ",", ";", "1e999", "nan", "-1", "/>", "<!ENTITY", "</image>"),
    "labelme": (*_JSON, *_SHAPES),
    "class_mapping": ('"0"', "null", "=", "+", ",", "#FF00FF", "void", "1-3", "_"),
    "data_string": (
        "pairs:",
        "synthetic:",
        "street",
        "frames=",
        "classes=",
        "val=",
        "test=",
        "lists=",
        "boxes:",
        "voc:",
    ),
    "options": ("x", "/", ",", "1e999", "nan", "-", *_STEPS),
    "preprocessing": _STEPS,
    "bench_result": (*_JSON, '"schema"', '"machine"', '"reading"', '"pipeline"', '"ratios"'),
    "url": _URLS,
    "source": (*_URLS, "camera:", "demo:", "fringes:", "width=", "height=", "fps=", "fourcc=", "MJPG"),
    "path": ("%05d", "%d", "*", "?", "[", "]", "~", "@", ".txt", ".png", "\0", "/", "..", "\ud800"),
    "image": (*_IMAGE, b"\xff\xd8", b"\xff\xc0", b"RIFF", b"WEBP", b"VP8X", b"ANMF", b"BM", b"P5", b"P6\n"),
    "mask": _IMAGE,
}
"""Name of the target -> texts that a fuzzer inserts."""
