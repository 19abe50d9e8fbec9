from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers.networks import CLASSES, random_network
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rtseg.errors import OptionError
from rtseg.models import create_model
from rtseg.models.base import Network
from rtseg.models.icnet_gru import ConvGRU
from rtseg.models.label_network import LabelNetwork

Maps = NDArray[np.float64]
SHUT = -50.0
"""Bias of a gate that is closed for all images."""


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network("icnet-gru:width=4")


@pytest.fixture
def gru() -> ConvGRU:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return ConvGRU(3)


def convolved(convolution: nn.Conv2d, maps: Maps) -> Maps:
    """A 3x3 convolution with zeros around, written out: (C, h, w) -> (out, h, w)."""
    kernel, bias = (tensor.detach().double().numpy() for tensor in convolution.parameters())
    _, height, width = maps.shape
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(kernel), height, width))
    for row in range(height):
        for column in range(width):
            window = padded[:, row : row + 3, column : column + 3]
            out[:, row, column] = (kernel * window).sum((1, 2, 3)) + bias
    return out


def sigmoid(values: Maps) -> Maps:
    return 1 / (1 + np.exp(-values))


class TestConvGRU:
    def test_it_computes_the_equations_of_the_paper(self, gru: ConvGRU) -> None:
        features, state = drawn(2, 3, 4, 5), drawn(2, 3, 4, 5, seed=2)
        with torch.no_grad():
            got = gru(features, state)
        for x, h, after in zip(*(maps.double().numpy() for maps in (features, state, got)), strict=True):
            z = sigmoid(convolved(gru.update, np.concatenate((x, h))))
            r = sigmoid(convolved(gru.reset, np.concatenate((x, h))))
            c = np.tanh(convolved(gru.candidate, np.concatenate((x, r * h))))
            np.testing.assert_allclose(after, (1 - z) * h + z * c, atol=1e-5)

    def test_no_state_is_a_state_of_zeros(self, gru: ConvGRU) -> None:
        features = drawn(1, 3, 4, 5)
        torch.testing.assert_close(gru(features), gru(features, torch.zeros(1, 3, 4, 5)), atol=0, rtol=0)

    def test_with_the_update_gate_shut_it_remembers_for_ever(self, gru: ConvGRU) -> None:
        nn.init.constant_(gru.update.bias, SHUT)  # type: ignore[arg-type]
        state = drawn(1, 3, 4, 5, seed=2)
        torch.testing.assert_close(gru(drawn(1, 3, 4, 5), state), state)

    def test_with_the_update_gate_open_and_the_reset_gate_shut_it_forgets_at_once(self, gru: ConvGRU) -> None:
        with torch.no_grad():
            gru.update.weight.zero_()
            gru.reset.weight.zero_()
        nn.init.constant_(gru.update.bias, -SHUT)  # type: ignore[arg-type]
        nn.init.constant_(gru.reset.bias, SHUT)  # type: ignore[arg-type]
        features = drawn(1, 3, 4, 5)
        torch.testing.assert_close(gru(features, drawn(1, 3, 4, 5, seed=2)), gru(features))

    def test_the_state_never_leaves_minus_one_to_one(self, gru: ConvGRU) -> None:
        state = None
        for seed in range(20):
            state = gru(100 * drawn(1, 3, 4, 5, seed=seed), state)
        assert state.abs().max() <= 1
        assert state.abs().max() > 0.5

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_a_state_over_thousands_of_frames_survives_mixed_precision(self, gru: ConvGRU, dtype: torch.dtype) -> None:
        with torch.no_grad():
            gru.update.weight.zero_()
        nn.init.constant_(gru.update.bias, -8)  # type: ignore[arg-type]  # a step of 3e-4: bfloat16 ends at 4e-3 of 1
        features, exact, mixed = drawn(1, 3, 4, 5), torch.ones(1, 3, 4, 5), torch.ones(1, 3, 4, 5)
        with torch.no_grad():
            for _ in range(100):
                exact = gru(features, exact)
                with torch.autocast("cpu", dtype):
                    mixed = gru(features, mixed)
        assert mixed.dtype == torch.float32
        assert (exact - 1).abs().mean() > 0.01
        torch.testing.assert_close(mixed, exact, atol=1e-3, rtol=0)


class TestICNetGRU:
    def test_it_has_the_weights_of_icnet_and_three_convolutions_more(self) -> None:
        with torch.device("meta"):
            plain, sequence = create_model("icnet", 11), create_model("icnet-gru", 11)
        more = 3 * (9 * 512 * 256 + 256)
        counts = [sum(value.numel() for value in one.parameters()) for one in (plain, sequence)]
        assert counts[1] - counts[0] == more
        assert set(plain.state_dict()) <= set(sequence.state_dict())

    @pytest.mark.parametrize("size", [(64, 96), (128, 64)])
    def test_its_state_has_the_shape_that_it_says(self, network: Network, size: tuple[int, int]) -> None:
        with torch.no_grad():
            _, state = network.eval()(drawn(2, 3, *size))
        assert network.recurrent
        assert tuple(state.shape) == (2, *network.state_shape(*size)) == (2, 32, size[0] // 32, size[1] // 32)

    def test_the_prediction_depends_on_the_previous_image(self, network: Network) -> None:
        image = drawn(1, 3, 64, 96)
        with torch.no_grad():
            alone, after = network.eval()(image)
            logits = [network(image, network(before)[1])[0] for before in (drawn(1, 3, 64, 96, seed=2), image)]
        assert (logits[0] - alone).abs().max() > 0.01 * alone.abs().max()
        assert (logits[0] - logits[1]).abs().max() > 0.001 * alone.abs().max()
        assert after.abs().max() > 0

    def test_a_batch_of_videos_is_as_many_videos_one_by_one(self, network: Network) -> None:
        first, second = drawn(2, 3, 64, 96), drawn(2, 3, 64, 96, seed=2)
        network.eval()
        with torch.no_grad():
            together = network(second, network(first)[1])[0]
            for index in range(2):
                one = slice(index, index + 1)
                torch.testing.assert_close(
                    network(second[one], network(first[one])[1])[0], together[one], atol=1e-3, rtol=1e-3
                )

    def test_the_gradient_of_the_last_frame_flows_back_to_the_first_and_not_the_other_way(
        self, network: Network
    ) -> None:
        clip = [drawn(2, 3, 64, 96, seed=seed).requires_grad_() for seed in range(3)]
        state, losses = None, []
        for images in clip:
            outputs, state = network.train()(images, state)
            losses.append(sum(output.square().mean() for output in outputs))
        reached = [[grad is not None for grad in _gradients(loss, clip)] for loss in losses]
        assert reached == [[True, False, False], [True, True, False], [True, True, True]]
        assert all(grad.abs().max() > 0 for grad in _gradients(losses[2], clip) if grad is not None)

    def test_the_label_network_carries_the_state(self, network: Network) -> None:
        frames = torch.randint(0, 256, (3, 1, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        labels_of, state, logits_state = LabelNetwork(deepcopy(network)), None, None
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        with torch.no_grad():
            for frame in frames:
                labels, state = labels_of(frame, state)
                rgb = frame[..., [2, 1, 0]].permute(0, 3, 1, 2) / 255
                logits, logits_state = network.eval()((rgb - mean) / std, logits_state)
                full = nn.functional.interpolate(logits, size=(64, 96), mode="bilinear", align_corners=False)
                assert (labels == full.argmax(1)).float().mean() >= 0.999
        assert state.shape == (1, *network.state_shape(64, 96))

    def test_it_has_no_pyramid_to_choose(self) -> None:
        with pytest.raises(
            OptionError, match=r"no option 'pyramid'; it has channels, loss_weights, pretrained, width$"
        ):
            create_model("icnet-gru:pyramid=true", CLASSES)

    def test_a_network_of_single_images_keeps_no_state(self) -> None:
        with torch.device("meta"):
            network = create_model("icnet", CLASSES)
        assert not network.recurrent
        with pytest.raises(NotImplementedError, match="ICNet has no state"):
            network.state_shape(64, 96)


def _gradients(loss: Tensor, clip: list[Tensor]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(loss, clip, retain_graph=True, allow_unused=True)


@pytest.fixture
def process_group() -> Iterator[None]:
    """A group of one process, without a port."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_distributed_training_over_a_clip_has_the_gradients_of_a_single_process(
    network: Network, process_group: None
) -> None:
    class Clip(nn.Module):
        """One forward pass over all frames: a second one would let DDP write to what the first has saved."""

        def __init__(self, network: Network) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            state, losses = None, []
            for moment in range(images.shape[1]):
                outputs, state = self.network(images[:, moment], state)
                losses += [output.square().mean() for output in outputs]
            return torch.stack(losses).sum()

    clip = drawn(2, 3, 3, 64, 96)
    alone, wrapped = (Clip(deepcopy(network).train()) for _ in range(2))
    alone(clip).backward()
    DistributedDataParallel(wrapped)(clip).backward()
    for (name, one), other in zip(alone.named_parameters(), wrapped.parameters(), strict=True):
        assert one.grad is not None, name
        torch.testing.assert_close(other.grad, one.grad, msg=name)


@pytest.mark.slow
def test_it_learns_to_label_a_blank_image_as_the_one_before_it() -> None:
    """Which half of the first image is bright is nowhere to be seen in the second."""
    generator = torch.Generator().manual_seed(1)

    def clip() -> tuple[list[Tensor], Tensor]:
        labels = torch.zeros(8, 64, 64, dtype=torch.long)
        for image, right in zip(labels, torch.randint(0, 2, (8,), generator=generator).tolist(), strict=True):
            image[:, 32 * right : 32 * right + 32] = 1
        seen = (2.0 * labels - 1)[:, None].repeat(1, 3, 1, 1)
        return [seen, torch.zeros_like(seen)], labels

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = create_model("icnet-gru:width=4", 2).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(40):
        images, labels = clip()
        state, loss = None, torch.zeros(())
        for image in images:
            (logits, *_), state = network(image, state)
            full = nn.functional.interpolate(logits, size=(64, 64))
            loss = loss + nn.functional.cross_entropy(full, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (full.argmax(1) == labels).float().mean() > 0.95
