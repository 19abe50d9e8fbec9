"""One function for each parser of text or bytes that rtseg did not write. Only errors of rtseg may come out.

``test_targets.py`` runs them with hypothesis, ``scripts/fuzz.py`` with atheris.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper

from rtseg.app.option_values import VALUES
from rtseg.backends.tensorrt.engine_file import EngineFacts
from rtseg.bench.schema import read_result
from rtseg.cli._recipe import read_recipe
from rtseg.datasets import open_dataset
from rtseg.datasets.boxes import read_boxes
from rtseg.datasets.class_mapping import parse_class_mapping
from rtseg.datasets.mask_files import read_mask
from rtseg.errors import RtsegError
from rtseg.image_io.decode import ImageError, decode_image, decode_pages
from rtseg.image_io.find import find_files
from rtseg.model_file.activation_ranges import Ranges
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import METADATA_KEY, ModelSpec
from rtseg.model_file.structure import check_structure
from rtseg.preprocess import Prepare, override_steps, parse_steps
from rtseg.sources import open_source
from rtseg.system.redact import find_secrets, redact, split_url

__all__ = ["COCO", "EMPTY_RANGES", "ENGINE", "LABELME", "TARGETS", "TINY"]

Target = Callable[[bytes], None]

_FOLDER = Path(tempfile.mkdtemp(prefix="rtseg-fuzz-"))
TINY = ModelSpec("tiny", ("a", "b"), ((1, 2, 3), (4, 5, 6)), (4, 6))
ENGINE = EngineFacts(
    model="tiny",
    model_sha256="0" * 64,
    engine_sha256="1" * 64,
    runtime="rtx",
    runtime_version="1.7.1.116",
    precision="fp16",
    batch=1,
    targets=("sm_86+",),
    gpu=None,
    driver=None,
    spec=TINY,
    state_shape=None,
    build_seconds=1.5,
    built="2026-07-31",
    rtseg="1",
    ranges_sha256=None,
    certificate={},
).to_json()
EMPTY_RANGES = json.dumps(
    {"format": 1, "model": "a", "model_sha256": "", "method": "", "data": "", "frames": 1, "tensors": {}, "kept": []}
)
COCO = json.dumps(
    {
        "categories": [{"id": 1, "name": "a"}],
        "images": [{"id": 1, "file_name": "labelled.ppm", "width": 6, "height": 4}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 3, 0, 3, 2]]},
            {"image_id": 1, "category_id": 1, "segmentation": {"size": [4, 6], "counts": "0h0"}},
            {"image_id": 1, "category_id": 1, "segmentation": {"size": [4, 6], "counts": [3, 21]}},
        ],
    }
)
LABELME = json.dumps(
    {
        "imagePath": "../labelled.ppm",
        "imageWidth": 6,
        "imageHeight": 4,
        "shapes": [{"label": "a", "points": [[0, 0], [3, 0], [3, 2]], "shape_type": "polygon"}],
    }
)
_MAX_PIXELS = 1 << 16
_OPERATORS = ("Identity", "Add", "Conv", "If", "Loop", "ConstantOfShape", "Expand", "Tile", "Range", "f", "g", "?")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace") if _is_text(data) else repr(data)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _file(name: str, data: bytes) -> Path:
    path = _FOLDER / name
    path.write_bytes(data)
    return path


def _changed(text: str, data: bytes) -> str:
    """A valid JSON object with members replaced by those of the input, so that the checks behind the parser run too."""
    with suppress(ValueError, RecursionError):
        members = json.loads(data)
        if isinstance(members, dict):
            return json.dumps(json.loads(text) | members)
    return _text(data)


def metadata(data: bytes) -> None:
    """The metadata of a model file."""
    ModelSpec.from_json(_changed(TINY.to_json(), data)).to_json().encode()


def model_file(data: bytes) -> None:
    """A whole model file."""
    load_model(_file("a.onnx", data))


def model_file_metadata(data: bytes) -> None:
    """A model file of which only the metadata is wrong."""
    model = onnx.ModelProto()
    model.graph.node.add(op_type="Identity", input=["frames"], output=["labels"])
    model.metadata_props.add(key=METADATA_KEY, value=data.decode("utf-8", "replace"))
    load_model(_file("b.onnx", model.SerializeToString()))


def graph(data: bytes) -> None:
    """A graph of one node for every 6 bytes: where it is, its operator, two inputs, its output, a large number."""
    model = onnx.ModelProto()
    functions = [model.functions.add(name=name) for name in "fg"]
    places = [model.graph.node, *(function.node for function in functions)]
    for place, operator, first, second, output, size in zip(*[iter(data)] * 6, strict=False):
        node = places[place % 3].add(op_type=_OPERATORS[operator % len(_OPERATORS)], output=[f"{output % 16}"])
        node.input.extend(f"{name % 16}" for name in (first, second) if name % 16)
        if size:
            shape = onnx.numpy_helper.from_array(np.array([1 << size % 63, size], np.int64), f"{size % 16}")
            model.graph.initializer.append(shape)
            node.attribute.add(name="value").t.CopyFrom(shape)
            node.attribute.add(name="body").g.node.add(op_type="f", input=[f"{size % 16}"], output=["16"])
    check_structure(model)


def engine_facts(data: bytes) -> None:
    """The JSON beside an engine."""
    EngineFacts.from_json(_changed(ENGINE, data))


def calibration(data: bytes) -> None:
    """The JSON of recorded ranges."""
    Ranges.from_json(_changed(EMPTY_RANGES, data))


def recipe(data: bytes) -> None:
    """A TOML file of ``rtseg build-engine``."""
    read_recipe(_file("a.toml", data))


def image_list(data: bytes) -> None:
    """A list of images, without the URLs, which would be opened."""
    find_files(str(_file("a.txt", data.replace(b":/", b""))))


def boxes(data: bytes) -> None:
    """A CSV file of boxes."""
    read_boxes(_file("a.csv", data))


def _annotated(text: str) -> None:
    (_FOLDER / "labelled.ppm").write_bytes(b"P6\n6 4\n255\n" + bytes(72))
    open_dataset(f"{text},val=1", "val").load(0)


def coco(data: bytes) -> None:
    """A COCO file."""
    _file("coco.json", _changed(COCO, data).encode(errors="surrogatepass"))
    _annotated(f"coco:{_FOLDER}/coco.json")


def cvat(data: bytes) -> None:
    """An XML file of CVAT."""
    _file("cvat.xml", data)
    _annotated(f"cvat:{_FOLDER}/cvat.xml")


def labelme(data: bytes) -> None:
    """A file of LabelMe."""
    (_FOLDER / "labelme").mkdir(exist_ok=True)
    _file("labelme/a.json", _changed(LABELME, data).encode(errors="surrogatepass"))
    _annotated(f"labelme:{_FOLDER}/labelme")


def class_mapping(data: bytes) -> None:
    """A class mapping, as text and as a JSON file."""
    parse_class_mapping(str(_file("classes.json", data)))
    parse_class_mapping(_text(data))


def data_string(data: bytes) -> None:
    """The text of ``--data``."""
    kind, _, rest = _text(data).partition(":")
    if kind in ("synthetic", "camvid", "cityscapes", "voc", "boxes", "pairs"):
        open_dataset(f"{kind}:{rest}", "train")
    open_dataset(f"pairs:{_text(data)}", "train")


def options(data: bytes) -> None:
    """Values of options: sizes, ranges, numbers and names."""
    for values in VALUES.values():
        with suppress(RtsegError):
            values.parse([_text(data)] if values.kind is not str else _text(data), "--option")


def preprocessing(data: bytes) -> None:
    """The steps of ``--preprocess``."""
    Prepare(override_steps(TINY, parse_steps(_text(data))))


def bench_result(data: bytes) -> None:
    """The JSON of ``rtseg bench --compare``."""
    read_result(_file("result.json", data))


def url(data: bytes) -> None:
    """A URL: it is split or refused, and its secrets are not shown, wherever they are."""
    part = _text(data)
    redact(part)
    for text in (f"rtsp://user:geheim{part}@host/a", f"rtmp://host/app/geheim{part}", f"http://host/a?geheim={part}x"):
        assert "geheim" not in redact(text, *find_secrets(text)).replace("?geheim=", ""), text
        with suppress(RtsegError):
            split_url(text)
    # One word, as in the message of a library that does not know the secrets.
    word = re.sub(r"[\s'\"<>]", "", part)
    for text in (f"http://host/a?{word}&key=geheim", f"http://host/a#{word}geheim", f"rtsp://user:geheim{word}@host/a"):
        assert "geheim" not in redact(f"cannot open {text}: refused"), text


def source(data: bytes) -> None:
    """The text of ``--source``, which is not opened."""
    open_source(re.sub(r"[*?\[]|^/|\.\.", "_", text) if "://" not in (text := _text(data)) else text)


def path(data: bytes) -> None:
    """A path of images, a glob, or a numbered sequence, in an empty folder."""
    find_files(_FOLDER / "empty" / _text(data).lstrip("/").replace("..", "_"))


def image(data: bytes) -> None:
    """An image file, decoded in every way."""
    for channels in (2, 3, 4):
        with suppress(ImageError):
            decode_image(data, channels, max_pixels=_MAX_PIXELS)
    with suppress(ImageError):
        decode_image(data, 3, keep_grey=True, reduce=2, bits=12, max_pixels=_MAX_PIXELS)
    with suppress(ImageError):
        for index, _ in enumerate(decode_pages(data, max_pixels=_MAX_PIXELS)):
            if index > 8:
                break


def mask(data: bytes) -> None:
    """A mask of a data set."""
    read_mask(_FOLDER / "mask.png", lambda _: data)


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        *(metadata, model_file, model_file_metadata, graph, engine_facts, calibration, recipe, image_list, boxes),
        *(coco, cvat, labelme),
        *(class_mapping, data_string, options, preprocessing, bench_result, url, source, path, image, mask),
    )
}
"""Name -> function of the input."""
