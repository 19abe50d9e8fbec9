from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from rtseg.model_file.spec import VOID
from rtseg.models import create_model
from rtseg.models.base import Output
from rtseg.training.auxiliary_losses import alignment, boundary_cross_entropy, boundary_labels, keep_boundary
from rtseg.training.objective import Objective, make_loss, output_losses

NETWORKS = ["ddrnet23-slim", "pidnet-s", "sctnet-s:transformer=0", "seaformer-tiny"]


def halves(height: int = 8, width: int = 12) -> Tensor:
    """Class 0 on the left, class 1 on the right, int64 (1, H, W)."""
    labels = torch.zeros((1, height, width), dtype=torch.int64)
    labels[:, :, width // 2 :] = 1
    return labels


class TestBoundaryLabels:
    def test_the_boundary_is_two_pixels_wide_on_each_side(self) -> None:
        assert boundary_labels(halves())[0].tolist() == [[0] * 4 + [1] * 4 + [0] * 4] * 8

    def test_one_class_has_none_and_the_border_of_void_is_none(self) -> None:
        labels = torch.full((1, 6, 9), 3)
        labels[:, :2] = VOID
        assert boundary_labels(labels)[0].tolist() == [[VOID] * 9] * 2 + [[0] * 9] * 4

    def test_a_line_of_void_between_two_classes_does_not_hide_their_boundary(self) -> None:
        labels = halves()
        labels[:, :, 6] = VOID
        assert boundary_labels(labels)[0, 0].tolist() == [0, 0, 0, 0, 0, 1, VOID, 1, 0, 0, 0, 0]

    def test_class_ids_are_compared_and_not_their_distance(self) -> None:
        for low, high in ((0, 254), (253, 254)):
            labels = torch.where(halves() == 0, low, high)
            torch.testing.assert_close(boundary_labels(labels), boundary_labels(halves()))


class TestBoundaryCrossEntropy:
    def test_it_is_the_weighted_mean_by_a_plain_loop(self) -> None:
        logits = torch.randn((1, 1, 8, 12), generator=torch.Generator().manual_seed(1))
        labels = halves()
        labels[:, :3] = VOID
        boundary = boundary_labels(labels)
        pixels = [(y, x) for y, x in np.ndindex(8, 12) if boundary[0, y, x] != VOID]
        share = sum(int(boundary[0, y, x]) for y, x in pixels) / len(pixels)
        total = 0.0
        for y, x in pixels:
            p = 1 / (1 + math.exp(-float(logits[0, 0, y, x])))
            total += -(1 - share) * math.log(p) if boundary[0, y, x] else -share * math.log(1 - p)
        assert float(boundary_cross_entropy(logits, boundary)) == pytest.approx(total / len(pixels), rel=1e-4)

    def test_boundary_and_the_rest_have_the_same_weight_together(self) -> None:
        logits = torch.zeros((1, 1, 8, 40), requires_grad=True)
        boundary = boundary_labels(halves(8, 40))
        boundary_cross_entropy(logits, boundary).backward()
        assert logits.grad is not None
        pull = [float(logits.grad[:, 0][boundary == kind].abs().sum()) for kind in (0, 1)]
        assert pull[0] == pytest.approx(pull[1], rel=1e-4)

    def test_only_void_gives_zero_with_a_zero_gradient(self) -> None:
        logits = torch.randn((1, 1, 4, 4), requires_grad=True)
        loss = boundary_cross_entropy(logits, torch.full((1, 4, 4), VOID))
        loss.backward()
        assert float(loss.detach()) == 0
        assert logits.grad is not None
        assert not logits.grad.any()


def test_only_pixels_seen_as_boundary_count_for_the_classes_there() -> None:
    probabilities = torch.tensor([0.1, 0.79, 0.81, 0.99])
    kept = keep_boundary(torch.tensor([[[0, 1, 2, 3]]]), probabilities.logit()[None, None, None])
    assert kept.tolist() == [[[VOID, VOID, 2, 3]]]


class TestAlignment:
    def test_it_is_zero_for_equal_features_whatever_is_added_to_a_channel(self) -> None:
        own = torch.randn((2, 3, 4, 5), generator=torch.Generator().manual_seed(1))
        assert float(alignment(torch.stack((own, own), 1))) == pytest.approx(0, abs=1e-6)
        assert float(alignment(torch.stack((own, own + 7), 1))) == pytest.approx(0, abs=1e-5)
        assert float(alignment(torch.stack((own, 2 * own), 1))) > 0.01

    def test_two_pixels_by_hand(self) -> None:
        # softmax((4, 0) / 4) = (0.731059, 0.268941) against one half each; times 4^2.
        features = torch.tensor([[[[[0.0, 0.0]]], [[[4.0, 0.0]]]]])
        wanted = 16 * (0.731059 * math.log(0.731059 / 0.5) + 0.268941 * math.log(0.268941 / 0.5))
        assert float(alignment(features)) == pytest.approx(wanted, rel=1e-4)

    def test_what_it_is_aligned_with_gets_no_gradient(self) -> None:
        features = torch.randn((1, 2, 3, 4, 4), requires_grad=True)
        alignment(features).backward()
        assert features.grad is not None
        assert features.grad[:, 0].any()
        assert not features.grad[:, 1].any()


def test_each_output_has_the_loss_of_its_kind() -> None:
    generator = torch.Generator().manual_seed(1)
    classes, boundary = (torch.randn((1, count, 8, 12), generator=generator) for count in (3, 1))
    pair = torch.randn((1, 2, 3, 4, 4), generator=generator)
    loss = make_loss("ce", torch.ones(3))
    kinds = (Output.CLASSES, Output.BOUNDARY, Output.CLASSES_AT_BOUNDARY, Output.ALIGNMENT)
    losses = output_losses((classes, boundary, classes, pair), halves(), kinds, loss)
    wanted = [
        loss(classes, halves()),
        boundary_cross_entropy(boundary, boundary_labels(halves())),
        loss(classes, keep_boundary(halves(), boundary)),
        alignment(pair),
    ]
    torch.testing.assert_close(losses, wanted)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_of_a_batch_falls_in_a_few_steps(name: str) -> None:
    torch.manual_seed(1)
    network = create_model(name, 2).train()
    for part in network.modules():
        if isinstance(part, StochasticDepth | nn.Dropout2d):
            part.p = 0.0
    images = torch.randint(0, 60, (2, 3, 64, 64), dtype=torch.uint8)
    labels = halves(64, 64).repeat(2, 1, 1)
    images += (labels[:, None] * 150).to(torch.uint8)
    objective = Objective(network, make_loss("ce", torch.ones(2)), network.loss_weights)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = objective(images, labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]
