from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import enumerate as living_threads
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.model_file.spec import ModelSpec
from rtseg.weights import DEFAULT_MODEL, bundled_models

if TYPE_CHECKING:
    from rtseg.models.icnet import ICNet

# Such small networks are slower on two threads than on one, and many times slower on a busy machine, where the
# threads wait for each other. torch reads this when it is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

Images = NDArray[np.uint8]

SHARED = Path(__file__).parents[2] / "shared"
TINY = (64, 96)
"""(H, W) of the test models."""


@pytest.fixture(scope="session", autouse=True)
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What rtseg remembers of int8 on this CPU is kept apart from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with public test data next to a developer's checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the shared test data in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def bundled() -> Path:
    """The default bundled model."""
    models = bundled_models()
    assert DEFAULT_MODEL in models, f"{DEFAULT_MODEL} is not in rtseg/weights"
    return models[DEFAULT_MODEL]


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    """The metadata of ``icnet_file``."""
    return ModelSpec("tiny", CLASSES, PALETTE, TINY, architecture="icnet", miou=0.25, measured_on="nothing")


@pytest.fixture(scope="session")
def icnet() -> ICNet:
    """An ICNet with reproducible random weights in evaluation mode. Do not modify it."""
    import torch

    from rtseg.models.icnet import ICNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = ICNet(len(CLASSES))
        network.train()
        with torch.no_grad():  # update batch norm statistics, else the deep layers have almost no effect
            for _ in range(3):
                network(torch.randn(4, 3, *TINY))
    return network.eval()


@pytest.fixture(scope="session")
def icnet_file(icnet: ICNet, tiny_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of ``icnet`` at 64x96."""
    from rtseg.deploy.export import export_network

    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    export_network(icnet, tiny_spec, path)
    return path


@pytest.fixture(scope="session")
def sequence_file(tiny_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of a recurrent network at 64x96: a small ICNet with a GRU whose state changes its labels."""
    import torch

    from rtseg.deploy.export import export_network
    from rtseg.models import create_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = create_model("icnet-gru:width=4", len(CLASSES)).train()
        with torch.no_grad():  # see ``icnet``
            for _ in range(3):
                _, state = network(torch.randn(4, 3, *TINY))
                network(torch.randn(4, 3, *TINY), state)
    path = tmp_path_factory.mktemp("sequence") / "sequence.onnx"
    export_network(network.eval(), replace(tiny_spec, architecture=network.architecture), path)
    return path


@pytest.fixture(scope="session")
def real_frames() -> Images:
    """Three street images, uint8 (3, 384, 640, 3) BGR: from CamVid val if available, else synthetic."""
    from rtseg.preprocess import resize

    folder = SHARED / "data" / "camvid"
    if folder.is_dir():
        from rtseg.datasets import open_dataset

        dataset = open_dataset(f"camvid:{folder}", "val")
        images = [dataset.load(index)[0] for index in (0, 45, 90)]
    else:
        from rtseg.synthetic.street import Street

        images = [Street((360, 600), seed=seed).render(20.0)[0] for seed in (7, 8, 9)]
    return np.stack([resize(image, (384, 640)) for image in images])


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Make Ctrl-C raise ``KeyboardInterrupt``, even if the tests run as a background job of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    """Fail a test that leaves a thread of rtseg running."""
    yield
    remaining = [thread.name for thread in living_threads() if thread.name.startswith("rtseg")]
    assert not remaining
