from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from helpers.doubles import UINT8, blue_graph
from helpers.pages import LEFT, RIGHT, SIZE, serving

from rtseg.app.options import StreamOptions
from rtseg.model_file.spec import VOID, ModelSpec, write_spec
from rtseg.pipeline.options import PropagationOptions
from rtseg.sources.options import SourceOptions
from rtseg.web.options import PageOptions
from rtseg.web.server import PageServer


@pytest.fixture(scope="session")
def blue_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that names the class of each pixel by its blue value."""
    graph = blue_graph(frames=("frames", UINT8, ["N", *SIZE, 3]), labels=("labels", UINT8, ["N", *SIZE]))
    names = tuple(f"class {number}" for number in range(VOID))
    palette = tuple((number, 255 - number, 7) for number in range(VOID))
    write_spec(graph, ModelSpec("blue", names, palette, SIZE))
    path = tmp_path_factory.mktemp("blue") / "blue.onnx"
    onnx.save(graph, path)
    return path


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images whose left and right halves have the classes ``LEFT`` and ``RIGHT``."""
    folder = tmp_path_factory.mktemp("images")
    image = np.full((*SIZE, 3), (LEFT, 90, 160), np.uint8)
    image[:, SIZE[1] // 2 :, 0] = RIGHT
    for number in range(25):
        cv2.imwrite(str(folder / f"{number:03}.png"), image)
    return folder


@pytest.fixture(scope="session")
def endless(blue_model: Path, images: Path) -> StreamOptions:
    """The images again and again, 25 a second."""
    return StreamOptions(
        str(images),
        model=str(blue_model),
        backend="openvino",
        device="cpu",
        part=SourceOptions(loop=True),
        propagation=PropagationOptions("off"),
    )


@pytest.fixture(scope="module")  # no longer: it has threads, and works all the time
def page(endless: StreamOptions) -> Iterator[str]:
    """The address of a page with one source, ``0``."""
    with serving([endless], PageOptions(port=0)) as server:
        yield server.address


@pytest.fixture
def start_page(endless: StreamOptions) -> Iterator[Callable[..., PageServer]]:
    """Start a page with options of its own; of the endless source unless others are given."""
    with ExitStack() as opened:

        def start(*runs: StreamOptions, **options: Any) -> PageServer:
            return opened.enter_context(serving(list(runs) or [endless], PageOptions(**{"port": 0} | options)))

        yield start
