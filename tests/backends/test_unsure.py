"""Labels that a model is not sure of are left out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.small_network import SIZE, small_images, small_model

from rtseg.backends import open_backend
from rtseg.backends.shared import SharedModel
from rtseg.backends.unsure import SureBackend
from rtseg.errors import BackendUnavailable
from rtseg.model_file.load import ModelFile
from rtseg.model_file.spec import VOID


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return small_model(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_labels_of_a_small_margin_are_void_and_the_others_stay(name: str, model: ModelFile) -> None:
    images = small_images()
    backend = open_backend(name, model, precision="fp32", margin=True)
    with SureBackend(backend, 0.25) as sure:
        ticket = backend.submit(images)
        labels, margins = backend.wait(ticket).copy(), backend.margins(ticket)
        assert margins is not None
        height, width = labels.shape[1:]
        enlarged = np.stack([cv2.resize(margin, (width, height)) for margin in margins])
        got = sure.infer(images)
        assert sure.facts()["unsure"] == 0.25
    unsure = enlarged < 64  # 0.25 of 255, rounded
    assert 0.05 < unsure.mean() < 0.95
    assert np.array_equal(got, np.where(unsure, VOID, labels))


def test_a_batch_of_many_videos_is_treated_alike(model: ModelFile) -> None:
    images = small_images(2)
    with SureBackend(open_backend("openvino", model, precision="fp32", margin=True), 0.25) as sure:
        expected = sure.infer(images).copy()
    shared = SharedModel(SureBackend(open_backend("openvino", model, precision="fp32", margin=True), 0.25))
    try:
        members = [shared.connect(), shared.connect()]
        tickets = [member.submit(image[None]) for member, image in zip(members, images, strict=True)]
        got = [member.wait(ticket) for member, ticket in zip(members, tickets, strict=True)]
    finally:
        shared.close()
    assert np.array_equal(np.concatenate(got), expected)
    assert (expected == VOID).any()


def test_a_sequence_model_starts_again_after_a_reset(tmp_path: Path) -> None:
    model = small_model(tmp_path, recurrent=True)
    image = small_images(1)
    with SureBackend(open_backend("openvino", model, precision="fp32", margin=True), 0.25) as sure:
        assert sure.recurrent
        first, second = sure.infer(image).copy(), sure.infer(image).copy()
        sure.reset()
        assert np.array_equal(sure.infer(image), first)
    assert not np.array_equal(first, second)
    assert first.shape[1:] == SIZE


def test_a_backend_that_cannot_tell_is_refused(icnet_file: Path) -> None:
    with pytest.raises(BackendUnavailable, match="torch backend does not tell how sure labels are: use --backend"):
        open_backend("torch", icnet_file, margin=True)
