from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.errors import DatasetError, OptionError
from rtseg.model_file.spec import VOID
from rtseg.training.loss_options import LOSSES, LossTerm, parse_loss
from rtseg.training.objective import class_weights, make_loss, multi_resolution_loss, rare_classes
from rtseg.training.options import CLASS_WEIGHTS

PIXELS = np.array([[700, 200, 0, 100], [1000, 500, 0, 400]], np.int64)
"""Of four classes, and in all images in which each occurs."""
ONES = torch.ones(4)
UNEQUAL = torch.tensor([1.0, 2.0, 0.5, 0.0])
TEXTS = [*LOSSES, "ce+dice", "0.5*ohem:threshold=0.9,keep=0.3+lovasz"]

Array = NDArray[np.float64]


def random_labels(*shape: int, classes: int = 4) -> Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(1))


def random_logits(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_()


def partly_void(*shape: int, classes: int = 4) -> Tensor:
    labels = random_labels(*shape, classes=classes)
    labels[0, :3] = VOID
    return labels


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits)[0]


def pixels_that_count(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Array, list[int]]:
    """Logits (M, C) and truth of the pixels that are not void and whose class has a weight, by a plain loop."""
    kept, truth = [], []
    for n, y, x in np.ndindex(tuple(labels.shape)):
        label = int(labels[n, y, x])
        if label != VOID and weights[label] > 0:
            kept.append(logits[n, :, y, x].detach().double().numpy())
            truth.append(label)
    return np.array(kept), truth


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


class TestClassWeights:
    def test_without_weights_all_classes_that_occur_count_alike(self) -> None:
        np.testing.assert_allclose(class_weights(PIXELS, "none"), [1, 1, 0, 1])

    def test_enets_weights_are_one_over_the_logarithm_of_the_share(self) -> None:
        # 1 / ln(1.02 + (0.7, 0.2, 0.1)) = 1.843915, 5.028895, 8.823891; their mean over the pixels is 3.178909.
        np.testing.assert_allclose(class_weights(PIXELS, "enet")[[0, 1, 3]], [0.580047, 1.581956, 2.775761], rtol=1e-5)

    def test_median_frequency_is_taken_over_the_images_in_which_a_class_occurs(self) -> None:
        # 0.4 / (700/1000, 200/500, 100/400) = 4/7, 1, 1.6; their mean over the pixels is 0.4 + 0.2 + 0.16.
        np.testing.assert_allclose(
            class_weights(PIXELS, "median")[[0, 1, 3]], [0.751880, 1.315789, 2.105263], rtol=1e-5
        )

    @pytest.mark.parametrize("kind", CLASS_WEIGHTS)
    def test_their_mean_over_the_pixels_of_the_data_is_one(self, kind: str) -> None:
        weights = class_weights(PIXELS, kind).numpy()
        assert (weights * PIXELS[0]).sum() / PIXELS[0].sum() == pytest.approx(1)

    @pytest.mark.parametrize("kind", CLASS_WEIGHTS)
    def test_a_class_without_a_pixel_has_no_weight(self, kind: str) -> None:
        assert class_weights(PIXELS, kind)[2] == 0

    @pytest.mark.parametrize("kind", ["enet", "median"])
    def test_a_rarer_class_weighs_more(self, kind: str) -> None:
        weights = class_weights(PIXELS, kind)
        assert weights[3] > weights[1] > weights[0] > 0

    def test_a_power_makes_the_weights_weaker_and_their_mean_stays_one(self) -> None:
        full, half, none = (class_weights(PIXELS, "median", power) for power in (1.0, 0.5, 0.0))
        assert half[3] / half[0] == pytest.approx(math.sqrt(full[3] / full[0]))
        assert (half.numpy() * PIXELS[0]).sum() / PIXELS[0].sum() == pytest.approx(1)
        np.testing.assert_allclose(none, [1, 1, 0, 1])

    def test_rare_classes_have_less_than_a_quarter_of_the_mean_share_but_a_pixel(self) -> None:
        counts = np.array([[1000, 62, 63, 0], [0, 0, 0, 0]], np.int64)  # a quarter of the mean is 70.3
        assert rare_classes(counts).tolist() == [False, True, True, False]
        counts[0, 2] = 90
        assert rare_classes(counts).tolist() == [False, True, False, False]

    def test_an_unknown_kind_is_refused_with_those_known(self) -> None:
        with pytest.raises(OptionError, match="unknown class weights 'best'; known are none, enet, median"):
            class_weights(PIXELS, "best")

    def test_data_without_a_labelled_pixel_are_refused(self) -> None:
        with pytest.raises(DatasetError, match="every label is void"):
            class_weights(np.zeros((2, 4), np.int64), "enet")


class TestText:
    def test_a_name_alone_is_that_loss_with_the_options_of_its_authors(self) -> None:
        assert parse_loss("ce") == (LossTerm("ce", 1.0, {"smoothing": 0.0}),)
        assert parse_loss("asymmetric") == (
            LossTerm("asymmetric", 1.0, {"gamma_neg": 4, "gamma_pos": 1, "clip": 0.05}),
        )
        assert parse_loss("ohem") == (LossTerm("ohem", 1.0, {"threshold": 0.7, "keep": 0.0625}),)

    def test_options_factors_and_sums_are_read(self) -> None:
        first, second, third = parse_loss("ce+0.5*ohem:keep=0.25,threshold=0.9+2e0*dice")
        assert first == LossTerm("ce", 1.0, {"smoothing": 0.0})
        assert second == LossTerm("ohem", 0.5, {"threshold": 0.9, "keep": 0.25})
        assert third == LossTerm("dice", 2.0, {})

    def test_a_sum_is_the_sum_of_its_parts(self) -> None:
        logits, labels = random_logits(2, 4, 6, 6), partly_void(2, 6, 6)
        ce, lovasz, both = (make_loss(text, ONES)(logits, labels) for text in ("ce", "lovasz", "ce+0.5*lovasz"))
        torch.testing.assert_close(both, ce + 0.5 * lovasz)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("focal", "no loss 'focal'; known are ce, asymmetric, ohem, dice, lovasz"),
            ("", "no loss ''; known are"),
            ("ce+", "no loss ''; known are"),
            ("dice:weight=2", "'dice' has no option 'weight'; it has none"),
            ("ce:weight=2", "'ce' has no option 'weight'; its options are smoothing"),
            ("ce:smoothing=0.6", "smoothing must be 0 to 0.5, got 0.6"),
            ("ce:", "'ce' has no option ''"),
            ("ohem:gamma=2", "'ohem' has no option 'gamma'; its options are threshold, keep"),
            ("ohem:keep", "keep must be a number, got ''"),
            ("ohem:keep=half", "keep must be a number, got 'half'"),
            ("ohem:keep=1.5", "keep must be 0.0001 to 1, got 1.5"),
            ("ohem:keep=nan", "keep must be 0.0001 to 1, got nan"),
            ("ohem:keep=0.1,keep=0.2", "keep is given twice"),
            ("asymmetric:clip=1", "clip must be 0 to 0.9, got 1"),
            ("asymmetric:gamma_neg=-1", "gamma_neg must be 0 to 20, got -1"),
            ("0*ce", "the factor must be 0.001 to 1000, got 0"),
            ("-1*ce", "the factor must be 0.001 to 1000, got -1"),
            ("inf*ce", "the factor must be 0.001 to 1000, got inf"),
            ("x*ce", "the factor must be a number, got 'x'"),
            ("*ce", "the factor must be a number, got ''"),
        ],
    )
    def test_what_is_wrong_is_refused_with_the_option_and_the_reason(self, text: str, why: str) -> None:
        with pytest.raises(OptionError) as caught:
            make_loss(text, ONES)
        assert str(caught.value).startswith(f"--loss {text!r}: ")
        assert why in str(caught.value)

    def test_every_loss_is_described_in_a_line(self) -> None:
        assert set(LOSSES) == {"ce", "asymmetric", "ohem", "dice", "lovasz"}
        assert all(10 < len(line) < 90 and "\n" not in line for line in LOSSES.values())


@pytest.mark.parametrize("text", TEXTS)
class TestEveryLoss:
    @pytest.mark.parametrize("value", [VOID, 3])
    def test_a_batch_of_ignored_pixels_has_zero_loss_and_gradient(self, text: str, value: int) -> None:
        # Class 3 has no weight. A mean over nothing would be NaN, and one NaN ends a training for good.
        logits, labels = random_logits(2, 4, 4, 4), torch.full((2, 4, 4), value)
        loss = make_loss(text, UNEQUAL)(logits, labels)
        assert loss == 0
        assert not gradient(loss, logits).any()

    def test_void_and_classes_without_weight_are_left_out(self, text: str) -> None:
        logits, labels = random_logits(1, 4, 4, 12), random_labels(1, 4, 12, classes=3)
        wider, more = torch.cat((logits, random_logits(1, 4, 4, 8)), 3), F.pad(labels, (0, 8), value=VOID)
        more[..., -4:] = 3
        loss = make_loss(text, UNEQUAL)
        torch.testing.assert_close(loss(wider, more), loss(logits, labels))
        assert not gradient(loss(wider, more), wider)[..., 12:].any()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_of_the_surest_logits_cost_and_gradient_are_finite(self, text: str, dtype: torch.dtype) -> None:
        logits = (1e4 * random_logits(2, 4, 6, 6).sign()).detach().to(dtype).requires_grad_()
        loss = make_loss(text, UNEQUAL)(logits, partly_void(2, 6, 6))
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert loss > 0
        assert gradient(loss, logits).isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_low_precision_logits_are_compared_in_fp32_even_under_autocast(self, text: str, dtype: torch.dtype) -> None:
        logits, labels = random_logits(2, 4, 6, 6).detach().to(dtype), partly_void(2, 6, 6)
        wanted = make_loss(text, UNEQUAL)(logits.float(), labels)
        with torch.autocast("cpu", torch.bfloat16):
            loss = make_loss(text, UNEQUAL)(logits, labels)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=0)

    def test_confident_correct_predictions_cost_nothing_and_wrong_ones_much(self, text: str) -> None:
        labels = partly_void(2, 8, 8)
        right = 60.0 * F.one_hot(labels.where(labels != VOID, 0), 4).movedim(-1, 1) - 30
        loss = make_loss(text, ONES)
        assert loss(right, labels) < 1e-4
        assert loss(-right, labels) > 0.4

    def test_minimising_it_learns_the_labels(self, text: str) -> None:
        labels = random_labels(1, 10, 10)
        seen = F.one_hot(labels, 4).movedim(-1, 1) + 0.2 * random_logits(1, 4, 10, 10).detach()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = torch.nn.Conv2d(4, 4, 1)
        labels[0, 0] = VOID
        optimizer, loss = torch.optim.Adam(network.parameters(), lr=0.1), make_loss(text, ONES)
        costs = []
        for _ in range(60):
            cost = loss(network(seen), labels)
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()
            costs.append(cost.item())
        assert costs[-1] < 0.5 * costs[0]
        known = labels != VOID
        assert (network(seen).argmax(1) == labels)[known].float().mean() > 0.95

    def test_every_process_takes_part_in_every_mean(self, text: str) -> None:
        # A collective operation that one process leaves out would let the others wait for ever.
        calls: list[int] = []

        def mean(value: Tensor) -> Tensor:
            assert not value.requires_grad
            calls[-1] += 1
            return value

        loss, logits = make_loss(text, ONES, mean=mean), random_logits(1, 4, 4, 4)
        for labels in (random_labels(1, 4, 4), torch.full((1, 4, 4), VOID)):
            calls.append(0)
            loss(logits, labels)
        assert calls[0] == calls[1]


# No gradient flows through the powers of the asymmetric loss, so that only without them is it that of the value.
@pytest.mark.parametrize(
    "text", ["ce", "dice", "lovasz", "ohem:threshold=0.5,keep=0.2", "asymmetric:gamma_neg=0,gamma_pos=0", "ce+2*dice"]
)
def test_the_gradient_matches_finite_differences(text: str) -> None:
    logits, labels = random_logits(2, 4, 3, 4), random_labels(2, 3, 4)
    labels[1, 2] = VOID
    loss, step = make_loss(text, torch.tensor([1.0, 2.0, 0.5, 0.3])), 5e-3
    found = gradient(loss(logits, labels), logits)
    slopes = torch.zeros_like(found)
    with torch.no_grad():
        for place in np.ndindex(tuple(logits.shape)):
            moved = torch.zeros_like(logits)
            moved[place] = step
            slopes[place] = (loss(logits + moved, labels) - loss(logits - moved, labels)) / (2 * step)
    assert slopes.abs().max() > 0.01
    torch.testing.assert_close(found, slopes, rtol=0.02, atol=2e-4)


@pytest.mark.parametrize("text", ["ce", "asymmetric", "ohem:threshold=0.4,keep=0.0001", "ce+asymmetric"])
def test_two_processes_with_unequal_shares_get_the_gradient_of_one_process(text: str) -> None:
    logits, labels = random_logits(4, 4, 6, 6), random_labels(4, 6, 6, classes=3)
    labels[2:, :5] = VOID
    weights = torch.tensor([1.0, 2.0, 0.5, 0.3])
    halves = [slice(0, 2), slice(2, 4)]
    seen: list[list[Tensor]] = []
    for half in halves:
        seen.append([])
        make_loss(text, weights, mean=lambda value: seen[-1].append(value) or value)(logits[half], labels[half])
    parts = []
    for half in halves:
        means = iter([torch.stack(values).mean() for values in zip(*seen, strict=True)])
        parts.append(make_loss(text, weights, mean=lambda _, means=means: next(means))(logits[half], labels[half]))
    alone = make_loss(text, weights)(logits, labels)
    torch.testing.assert_close((parts[0] + parts[1]) / 2, alone)
    torch.testing.assert_close(gradient((parts[0] + parts[1]) / 2, logits), gradient(alone, logits))


class TestCrossEntropy:
    def test_it_is_torchs_weighted_mean_without_void(self) -> None:
        logits, labels = random_logits(2, 4, 8, 12), partly_void(2, 8, 12)
        loss = make_loss("ce", UNEQUAL)(logits, labels)
        wanted = F.cross_entropy(logits, labels, UNEQUAL, ignore_index=VOID)
        torch.testing.assert_close(loss, wanted)
        torch.testing.assert_close(gradient(loss, logits), gradient(wanted, logits))

    def test_smoothing_mixes_the_mean_over_all_classes_into_the_truth(self) -> None:
        logits, labels = random_logits(2, 4, 8, 12), partly_void(2, 8, 12)
        plain, smooth = (make_loss(text, UNEQUAL)(logits, labels) for text in ("ce", "ce:smoothing=0.2"))
        kept, truth = pixels_that_count(logits, labels, UNEQUAL)
        negative_logs, weights = -np.log(softmax(kept)), UNEQUAL.numpy()[truth]
        uniform = (weights * negative_logs.mean(1)).sum() / weights.sum()
        assert smooth.item() == pytest.approx(0.8 * plain.item() + 0.2 * uniform, rel=1e-5)


class TestAsymmetric:
    def reference(self, logits: Tensor, labels: Tensor, positive: float, negative: float, clip: float) -> Tensor:
        """The paper's equations in fp64, a weighted mean over pixels; the powers are constants to the gradient."""
        known = labels != VOID
        x = logits.double().movedim(1, -1)[known]
        y = F.one_hot(labels[known], 4).double()
        p = x.sigmoid()
        shifted = (p - clip).clamp_min(0)
        gains = (
            y * (1 - p).detach() ** positive * p.log() + (1 - y) * shifted.detach() ** negative * (1 - shifted).log()
        )
        weights = UNEQUAL.double()[labels[known]]
        return -(weights * gains.sum(1)).sum() / weights.sum()

    def test_without_powers_and_shift_it_is_binary_cross_entropy(self) -> None:
        logits, labels = random_logits(2, 4, 8, 12), partly_void(2, 8, 12)
        loss = make_loss("asymmetric:gamma_neg=0,gamma_pos=0,clip=0", ONES)(logits, labels)
        known = labels != VOID
        wanted = F.binary_cross_entropy_with_logits(
            logits.movedim(1, -1)[known], F.one_hot(labels[known], 4).float(), reduction="none"
        )
        torch.testing.assert_close(loss, wanted.sum(1).mean())
        torch.testing.assert_close(gradient(loss, logits), gradient(wanted.sum(1).mean(), logits))

    @pytest.mark.parametrize(("positive", "negative", "clip"), [(1, 4, 0.05), (0, 4, 0.2), (2, 0, 0.05), (1, 2.5, 0)])
    def test_it_follows_the_paper(self, positive: float, negative: float, clip: float) -> None:
        logits, labels = (2 * random_logits(2, 4, 8, 12)).detach().requires_grad_(), partly_void(2, 8, 12)
        text = f"asymmetric:gamma_neg={negative},gamma_pos={positive},clip={clip}"
        loss, wanted = (
            make_loss(text, UNEQUAL)(logits, labels),
            self.reference(logits, labels, positive, negative, clip),
        )
        torch.testing.assert_close(loss, wanted.float())
        torch.testing.assert_close(gradient(loss, logits), gradient(wanted, logits), rtol=1e-4, atol=1e-7)

    def test_an_easy_negative_has_no_gradient(self) -> None:
        logits = torch.tensor([0.0, -4.0])[None, :, None, None].requires_grad_()  # the sigmoid of -4 is 0.018
        found = gradient(make_loss("asymmetric", torch.ones(2))(logits, torch.zeros(1, 1, 1, dtype=torch.long)), logits)
        assert found[0, 0] < 0
        assert found[0, 1] == 0


class TestOhem:
    @pytest.mark.parametrize(
        ("threshold", "keep"), [(0.3, 0.0001), (0.7, 0.0625), (0.05, 0.5), (0.0, 0.37), (0.9, 1.0)]
    )
    def test_it_is_the_cross_entropy_of_the_hard_pixels_and_of_the_hardest_share(
        self, threshold: float, keep: float
    ) -> None:
        logits, labels = random_logits(2, 4, 8, 12), partly_void(2, 8, 12)
        values, truth = pixels_that_count(logits, labels, UNEQUAL)
        probability = softmax(values)[np.arange(len(truth)), truth]
        order = np.argsort(probability)
        count = max((probability < threshold).sum(), math.ceil(keep * len(truth)))
        weights = UNEQUAL.double().numpy()[truth][order[:count]]
        wanted = (weights * -np.log(probability[order[:count]])).sum() / weights.sum()
        loss = make_loss(f"ohem:threshold={threshold},keep={keep}", UNEQUAL)(logits, labels)
        assert loss.item() == pytest.approx(wanted, rel=1e-5)
        touched = gradient(loss, logits).abs().sum(1).count_nonzero()
        assert touched == count

    def test_equal_pixels_are_all_kept(self) -> None:
        logits = torch.zeros(1, 4, 8, 8, requires_grad=True)
        loss = make_loss("ohem:threshold=0,keep=0.1", ONES)(logits, random_labels(1, 8, 8))
        assert gradient(loss, logits).abs().sum(1).all()

    def test_if_all_pixels_are_easy_only_the_kept_ones_have_a_gradient(self) -> None:
        labels = random_labels(1, 8, 8)
        logits = (8.0 * F.one_hot(labels, 4).movedim(-1, 1) + 0.1 * random_logits(1, 4, 8, 8)).detach().requires_grad_()
        found = gradient(make_loss("ohem", ONES)(logits, labels), logits)
        assert found.abs().sum(1).count_nonzero() == 4


class TestDice:
    def test_it_is_one_minus_the_overlap_of_the_classes_that_occur(self) -> None:
        logits, labels = random_logits(2, 5, 8, 12), partly_void(2, 8, 12, classes=3)
        labels[1, 7] = 3  # which has no weight: left out. Class 4 never occurs.
        weights = torch.tensor([1.0, 2.0, 0.5, 0.0, 1.0])
        values, truth = pixels_that_count(logits, labels, weights)
        p, costs = softmax(values), []
        for each in range(3):
            own = np.array(truth) == each
            costs.append(1 - 2 * p[own, each].sum() / (p[:, each].sum() + own.sum()))
        assert make_loss("dice", weights)(logits, labels).item() == pytest.approx(np.mean(costs), rel=1e-5)


def jaccard_loss(mistaken: set[int], own: set[int]) -> float:
    """1 - IoU of a class whose pixels are ``own`` where the pixels of ``mistaken`` are labelled wrongly."""
    return len(mistaken) / len(own | mistaken)


def lovasz_extension(of_set: Callable[[set[int]], float], errors: Array) -> float:
    """The extension as the paper defines it: each error by what its pixel adds to the set of those not smaller."""
    order = np.argsort(-errors)
    taken: set[int] = set()
    total = 0.0
    for pixel in order:
        before = of_set(taken)
        taken = taken | {int(pixel)}
        total += errors[pixel] * (of_set(taken) - before)
    return total


class TestLovasz:
    def test_it_is_the_lovasz_extension_of_the_jaccard_loss_mean_over_classes_that_occur(self) -> None:
        logits, labels = random_logits(2, 5, 6, 6), partly_void(2, 6, 6, classes=3)
        labels[1, 5] = 3
        weights = torch.tensor([1.0, 2.0, 0.5, 0.0, 1.0])
        values, truth = pixels_that_count(logits, labels, weights)
        p, costs = softmax(values), []
        for each in range(3):
            own = np.array(truth) == each
            errors = np.where(own, 1 - p[:, each], p[:, each])
            pixels = set(np.flatnonzero(own).tolist())
            costs.append(lovasz_extension(lambda taken, pixels=pixels: jaccard_loss(taken, pixels), errors))
        assert make_loss("lovasz", weights)(logits, labels).item() == pytest.approx(np.mean(costs), rel=1e-5)

    def test_of_sure_predictions_it_is_one_minus_the_mean_iou(self) -> None:
        labels, predicted = partly_void(2, 8, 8), random_logits(2, 4, 8, 8).argmax(1)
        known = labels != VOID
        ious = []
        for each in range(4):
            own, guessed = labels[known] == each, predicted[known] == each
            ious.append(float((own & guessed).sum() / (own | guessed).sum()))
        sure = 200.0 * F.one_hot(predicted, 4).movedim(-1, 1).float()
        assert make_loss("lovasz", ONES)(sure, labels).item() == pytest.approx(1 - np.mean(ious), abs=1e-5)

    def test_its_gradient_keeps_its_digits_over_many_pixels(self) -> None:
        side = 500
        logits = random_logits(1, 2, side, side)
        labels = (random_labels(1, side, side) == 0).long()
        found = gradient(make_loss("lovasz", torch.ones(2))(logits, labels), logits)[0, 1].flatten()
        values, own = logits.detach()[0].double().flatten(1), labels.flatten().numpy() == 1
        p = values.softmax(0)[1].numpy()
        wanted = np.zeros_like(p)
        for truth, probability, sign in ((own, p, 1.0), (~own, 1 - p, -1.0)):  # d p(0) = -d p(1)
            errors = np.where(truth, 1 - probability, probability)
            order = np.argsort(-errors)
            loss = 1 - (truth.sum() - np.cumsum(truth[order])) / (truth.sum() + np.cumsum(~truth[order]))
            jumps = np.empty_like(loss)
            jumps[order] = np.diff(loss, prepend=0.0)
            wanted += sign * np.where(truth, -1, 1) * jumps * p * (1 - p) / 2
        worst = np.abs(found.double().numpy() - wanted) / np.abs(wanted).max()
        assert worst.max() < 1e-3


class TestMultiResolutionLoss:
    def test_at_one_resolution_it_is_the_loss(self) -> None:
        logits, labels, loss = random_logits(2, 4, 8, 12), partly_void(2, 8, 12), make_loss("ce", UNEQUAL)
        for coarse in (False, True):
            found = multi_resolution_loss((logits,), labels, (1.0,), loss, coarse=coarse)
            torch.testing.assert_close(found, loss(logits, labels))

    @pytest.mark.parametrize("coarse", [False, True])
    @pytest.mark.parametrize("text", ["ce", "dice"])
    def test_the_losses_of_all_resolutions_are_summed_by_their_weights(self, coarse: bool, text: str) -> None:
        labels, loss = random_labels(2, 8, 12), make_loss(text, ONES)
        outputs = (random_logits(2, 4, 8, 12), random_logits(2, 4, 4, 6), random_logits(2, 4, 2, 3))
        alone = [multi_resolution_loss((logits,), labels, (1.0,), loss, coarse=coarse) for logits in outputs]
        together = multi_resolution_loss(outputs, labels, (1.0, 0.4, 0.2), loss, coarse=coarse)
        torch.testing.assert_close(together, alone[0] + 0.4 * alone[1] + 0.2 * alone[2])

    def test_logits_are_made_as_large_as_the_labels(self) -> None:
        labels, loss = random_labels(2, 8, 12), make_loss("ce", ONES)
        logits = random_logits(2, 4, 2, 3)
        large = F.interpolate(logits, (8, 12), mode="bilinear", align_corners=False)
        torch.testing.assert_close(multi_resolution_loss((logits,), labels, (1.0,), loss), loss(large, labels))

    def test_large_logits_keep_what_coarse_labels_lose(self) -> None:
        labels = torch.zeros(1, 8, 8, dtype=torch.long)
        labels[:, :, 0] = 1  # one pixel wide, between the places where coarse labels look
        logits, loss = torch.zeros(1, 2, 2, 2), make_loss("ce", torch.tensor([0.0, 1.0]))
        assert multi_resolution_loss((logits,), labels, (1.0,), loss) == pytest.approx(math.log(2))
        assert multi_resolution_loss((logits,), labels, (1.0,), loss, coarse=True) == 0

    def test_coarse_labels_are_made_by_taking_the_one_in_the_middle_never_by_mixing(self) -> None:
        labels = torch.tensor([[0, 3, 0, 1, 2, 1, 3, VOID, 3]]).repeat(3, 1)[None]
        certain = torch.full((1, 4, 1, 3), -50.0)
        certain[0, 3, 0, 0] = certain[0, 2, 0, 1] = certain[0, 0, 0, 2] = 50.0  # of the third the truth is void
        assert multi_resolution_loss((certain,), labels, (1.0,), make_loss("ce", ONES), coarse=True) < 1e-6

    def test_bf16_logits_are_upsampled_and_compared_in_fp32(self) -> None:
        logits, labels, loss = (
            random_logits(1, 4, 2, 2).detach().bfloat16(),
            random_labels(1, 8, 8),
            make_loss("ce", ONES),
        )
        found = multi_resolution_loss((logits,), labels, (1.0,), loss)
        torch.testing.assert_close(found, multi_resolution_loss((logits.float(),), labels, (1.0,), loss))

    def test_a_missing_weight_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="argument"):
            multi_resolution_loss(
                (random_logits(1, 4, 4, 4),) * 2, random_labels(1, 4, 4), (1.0,), make_loss("ce", ONES)
            )
