from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.errors import DatasetError, OptionError
from rtseg.spec import VOID
from rtseg.training.losses import CLASS_WEIGHTS, class_weights, multi_resolution_loss

PIXELS = np.array([700, 200, 0, 100], np.int64)


def random_labels(*shape: int, classes: int = 4) -> Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(1))


def random_logits(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_()


class TestClassWeights:
    def test_without_weights_all_classes_that_occur_count_alike(self) -> None:
        np.testing.assert_allclose(class_weights(PIXELS, "none"), [1, 1, 0, 1])

    def test_enets_weights_are_one_over_the_logarithm_of_the_share(self) -> None:
        raw = 1 / np.log(1.02 + np.array([0.7, 0.2, 0.1]))
        mean = (raw * [0.7, 0.2, 0.1]).sum()
        np.testing.assert_allclose(class_weights(PIXELS, "enet")[[0, 1, 3]], raw / mean, rtol=1e-6)

    def test_median_frequency_weights_are_the_median_share_over_the_share(self) -> None:
        raw = np.array([0.2 / 0.7, 1.0, 2.0])
        mean = (raw * [0.7, 0.2, 0.1]).sum()
        np.testing.assert_allclose(class_weights(PIXELS, "median")[[0, 1, 3]], raw / mean, rtol=1e-6)

    @pytest.mark.parametrize("kind", CLASS_WEIGHTS)
    def test_their_mean_over_the_pixels_of_the_data_is_one(self, kind: str) -> None:
        weights = class_weights(PIXELS, kind).numpy()
        assert (weights * PIXELS).sum() / PIXELS.sum() == pytest.approx(1)

    @pytest.mark.parametrize("kind", CLASS_WEIGHTS)
    def test_a_class_without_a_pixel_has_no_weight(self, kind: str) -> None:
        assert class_weights(PIXELS, kind)[2] == 0

    @pytest.mark.parametrize("kind", ["enet", "median"])
    def test_a_rarer_class_weighs_more(self, kind: str) -> None:
        weights = class_weights(PIXELS, kind)
        assert weights[3] > weights[1] > weights[0] > 0

    def test_an_unknown_kind_is_refused_with_those_known(self) -> None:
        with pytest.raises(OptionError, match="unknown class weights 'best'; known are none, enet, median"):
            class_weights(PIXELS, "best")

    def test_data_without_a_labelled_pixel_are_refused(self) -> None:
        with pytest.raises(DatasetError, match="every label is void"):
            class_weights(np.zeros(4, np.int64), "enet")


class TestMultiResolutionLoss:
    def test_at_one_resolution_it_is_the_weighted_cross_entropy_without_void(self) -> None:
        labels = random_labels(2, 8, 12)
        labels[0, :3] = VOID
        logits, weights = random_logits(2, 4, 8, 12), torch.tensor([1.0, 2.0, 0.5, 0.0])
        loss = multi_resolution_loss((logits,), labels, (1.0,), weights)
        wanted = F.cross_entropy(logits, labels, weights, ignore_index=VOID)
        torch.testing.assert_close(loss, wanted)
        torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, wanted)))

    def test_the_losses_of_all_resolutions_are_summed_by_their_weights(self) -> None:
        labels, ones = random_labels(2, 8, 12), torch.ones(4)
        outputs = (random_logits(2, 4, 8, 12), random_logits(2, 4, 4, 6), random_logits(2, 4, 2, 3))
        alone = [multi_resolution_loss((logits,), labels, (1.0,), ones) for logits in outputs]
        together = multi_resolution_loss(outputs, labels, (1.0, 0.4, 0.2), ones)
        torch.testing.assert_close(together, alone[0] + 0.4 * alone[1] + 0.2 * alone[2])

    def test_labels_are_made_smaller_by_taking_the_one_in_the_middle_never_by_mixing(self) -> None:
        labels = torch.tensor([[0, 3, 0, 1, 2, 1, 3, VOID, 3]]).repeat(3, 1)[None]
        certain = torch.full((1, 4, 1, 3), -50.0)
        certain[0, 3, 0, 0] = certain[0, 2, 0, 1] = certain[0, 0, 0, 2] = 50.0  # of the third the truth is void
        assert multi_resolution_loss((certain,), labels, (1.0,), torch.ones(4)) < 1e-6

    def test_a_sure_and_right_prediction_costs_nothing_and_a_wrong_one_much(self) -> None:
        labels = random_labels(1, 4, 4)
        sure = 100.0 * F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
        assert multi_resolution_loss((sure,), labels, (1.0,), torch.ones(4)) < 1e-6
        assert multi_resolution_loss((-sure,), labels, (1.0,), torch.ones(4)) > 50

    @pytest.mark.parametrize("value", [VOID, 3])
    def test_a_batch_without_a_pixel_that_counts_costs_nothing_and_teaches_nothing(self, value: int) -> None:
        # Class 3 has no weight. A mean over nothing would be NaN, and one NaN ends a training for good.
        logits, labels = random_logits(1, 4, 4, 4), torch.full((1, 8, 8), value)
        loss = multi_resolution_loss((logits,), labels, (1.0,), torch.tensor([1.0, 1.0, 1.0, 0.0]))
        assert loss == 0
        assert not torch.autograd.grad(loss, logits)[0].any()

    def test_bf16_logits_are_judged_in_fp32(self) -> None:
        logits = random_logits(1, 4, 4, 4).detach().bfloat16()
        loss = multi_resolution_loss((logits,), random_labels(1, 4, 4), (1.0,), torch.ones(4))
        assert loss.dtype == torch.float32

    def test_a_missing_weight_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="argument"):
            multi_resolution_loss((random_logits(1, 4, 4, 4),) * 2, random_labels(1, 4, 4), (1.0,), torch.ones(4))
