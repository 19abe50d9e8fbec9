"""One function for each parser of text or bytes that rtseg did not write. Only errors of rtseg may come out.

``test_targets.py`` runs them with hypothesis, ``scripts/fuzz.py`` with atheris.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import onnx

from rtseg.backends.tensorrt.engine_file import EngineFacts
from rtseg.bench.schema import read_result
from rtseg.cli._recipe import read_recipe
from rtseg.cli.parsing import VALUES
from rtseg.datasets import open_dataset
from rtseg.datasets.boxes import read_boxes
from rtseg.datasets.class_mapping import parse_class_mapping
from rtseg.errors import RtsegError
from rtseg.image_io.find import find_files
from rtseg.model_file.activation_ranges import Ranges
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import METADATA_KEY, ModelSpec
from rtseg.preprocess import Prepare, override_steps, parse_steps
from rtseg.system.redact import find_secrets, redact, split_url

__all__ = ["TARGETS"]

Target = Callable[[bytes], None]

_FOLDER = Path(tempfile.mkdtemp(prefix="rtseg-fuzz-"))
_SPEC = ModelSpec("tiny", ("a", "b"), ((1, 2, 3), (4, 5, 6)), (4, 6))


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
    ModelSpec.from_json(_changed(_SPEC.to_json(), data)).to_json().encode()


def model_file(data: bytes) -> None:
    """A whole model file."""
    load_model(_file("a.onnx", data))


def model_file_metadata(data: bytes) -> None:
    """A model file of which only the metadata is wrong."""
    model = onnx.ModelProto()
    model.graph.node.add(op_type="Identity", input=["frames"], output=["labels"])
    model.metadata_props.add(key=METADATA_KEY, value=data.decode("utf-8", "replace"))
    load_model(_file("b.onnx", model.SerializeToString()))


def engine_facts(data: bytes) -> None:
    """The JSON beside an engine."""
    EngineFacts.from_json(_changed('{"format": 1, "runtime": "rtx", "precision": "fp16", "certificate": {}}', data))


def calibration(data: bytes) -> None:
    """The JSON of recorded ranges."""
    facts = {"format": 1, "model": "a", "model_sha256": "", "method": "", "data": "", "frames": 1}
    text = json.dumps(facts | {"tensors": {}, "kept": []})
    Ranges.from_json(_changed(text, data))


def recipe(data: bytes) -> None:
    """A TOML file of ``rtseg build-engine``."""
    read_recipe(_file("a.toml", data))


def image_list(data: bytes) -> None:
    """A list of images, without the URLs, which would be opened."""
    find_files(str(_file("a.txt", data.replace(b":/", b""))))


def boxes(data: bytes) -> None:
    """A CSV file of boxes."""
    read_boxes(_file("a.csv", data))


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
    Prepare(override_steps(_SPEC, parse_steps(_text(data))))


def bench_result(data: bytes) -> None:
    """The JSON of ``rtseg bench --compare``."""
    read_result(_file("result.json", data))


def url(data: bytes) -> None:
    """A URL: it is split or refused, and its password is not shown."""
    text = f"rtsp://user:geheim{_text(data)}@host/a"
    redact(_text(data))
    assert not any("geheim" in redact(text, *find_secrets(text)) for _ in "1"), text
    split_url(text)


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        *(metadata, model_file, model_file_metadata, engine_facts, calibration, recipe, image_list, boxes),
        *(class_mapping, data_string, options, preprocessing, bench_result, url),
    )
}
"""Name -> function of the input."""
