from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.models import create_model
from rtseg.models.context import DAPPM, PAPPM, Upsample
from rtseg.models.pidnet import PixelAttentionGuidedFusion
from rtseg.models.sctnet import ConvolutionalAttention
from rtseg.models.seaformer import AxialAttention


def maps(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def interpolated(features: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("size", [(16, 24), (13, 7), (1, 9)])
@pytest.mark.parametrize("factor", [2, 8])
@pytest.mark.parametrize("fixed", [False, True])
def test_upsampling_by_matrices_is_bilinear_interpolation_to_any_size(
    size: tuple[int, int], factor: int, fixed: bool
) -> None:
    height, width = size
    small = maps(2, 3, -(-height // factor), -(-width // factor))
    upsample = Upsample(factor, 64)
    if fixed:
        upsample.fix_size(64 * height, 64 * width)
        assert {name for name, _ in upsample.named_buffers()} == {f"rows_64_over_{factor}", f"columns_64_over_{factor}"}
    torch.testing.assert_close(upsample(small, height, width), interpolated(small, size))
    assert not upsample.state_dict()


@pytest.mark.parametrize("size", [(6, 10), (3, 5)])
def test_dappm_adds_each_average_to_the_scale_before_it(size: tuple[int, int]) -> None:
    module = DAPPM(4, 3, 5, stride=64).eval()
    features = maps(1, 4, *size)
    with torch.no_grad():
        scales = [module.scale0(features)]
        for number in range(1, 5):
            average = interpolated(module.get_submodule(f"scale{number}")(features), features.shape[2:])
            scales.append(module.get_submodule(f"process{number}")(average + scales[-1]))
        wanted = module.compression(torch.cat(scales, 1)) + module.shortcut(features)
        torch.testing.assert_close(module(features), wanted)


def test_pappm_convolves_all_averages_in_groups_of_their_own() -> None:
    module = PAPPM(4, 3, 5, stride=64).eval()
    features = maps(1, 4, 6, 10)
    seen = []
    module.scale_process.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad():
        module(features)
        before, after = seen.pop()
        changed = features.clone()
        first = module.scale0(features)
        for number, part in enumerate(before.chunk(4, 1), 1):
            average = interpolated(module.get_submodule(f"scale{number}")(features), features.shape[2:])
            torch.testing.assert_close(part, average + first)
        changed = before.clone()
        changed[:, 3:] += 1
        torch.testing.assert_close(module.scale_process(changed)[:, :3], after[:, :3])


def test_pixel_attention_is_a_mean_of_details_and_context_for_each_pixel() -> None:
    module = PixelAttentionGuidedFusion(4, 3).eval()
    details, context = maps(1, 4, 8, 12), 3 + maps(1, 4, 4, 6)
    with torch.no_grad():
        large = F.interpolate(context, scale_factor=2.0, mode="bilinear", align_corners=False)
        share = (module(details, context, 2) - details) / (large - details)
    assert share.min() >= -1e-4
    assert share.max() <= 1 + 1e-4
    torch.testing.assert_close(share, share.mean(1, keepdim=True).expand_as(share), atol=1e-3, rtol=1e-3)


def test_convolutional_attention_shares_the_pixels_among_the_kernels_of_a_head() -> None:
    module = ConvolutionalAttention(16).eval()
    weights = module._normalise(maps(2, 64, 5, 7))
    heads = weights.reshape(2, 8, 8, 5, 7).sum(2)
    torch.testing.assert_close(heads, torch.ones_like(heads), atol=1e-3, rtol=0)
    with torch.no_grad():
        free = module(maps(2, 16, 5, 7))
        module.fix_size()
        torch.testing.assert_close(module(maps(2, 16, 5, 7)), free)


def test_axial_attention_is_the_same_with_positions_of_a_fixed_size() -> None:
    module = AxialAttention(8, 4).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)  # some are zero at first
    features = maps(2, 8, 6, 10)
    with torch.no_grad():
        free = module(features)
        module.fix_size(6, 10)
        torch.testing.assert_close(module(features), free)
        assert module.query_rows.weight.shape[2] == 6
        rolled = module(features.roll(1, 2))
    assert (rolled - free.roll(1, 2)).abs().max() > 1e-3, "it knows positions"


def test_the_auxiliary_heads_of_pidnet_get_features_after_relu_as_in_the_code_of_its_authors() -> None:
    network = create_model("pidnet-s", 3).train()
    seen = {}
    for name in network.auxiliary:
        network.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: inputs[0]})
        )
    network(maps(2, 3, 64, 64))
    assert seen.keys() == {"seghead_p", "seghead_d"}
    for features in seen.values():
        assert (features == 0).any()
        assert (features >= 0).all()
