from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from rtseg.errors import OptionError
from rtseg.models import create_model
from rtseg.models.icnet import ICNet
from rtseg.models.label_network import LabelNetwork, fuse_batch_norm

CLASSES = 11


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn((2, 3, 64, 96), generator=torch.Generator().manual_seed(1))


def with_uneven_statistics(network: ICNet) -> ICNet:
    """A copy whose batch norms all do something: scales, shifts, means and variances are drawn."""
    copy = deepcopy(network)
    random = torch.Generator().manual_seed(2)
    for module in copy.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
            ):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=random)
    return copy


def test_the_pruned_network_of_the_paper_has_6_70_million_parameters(icnet: ICNet) -> None:
    count = sum(parameter.numel() for parameter in icnet.parameters())
    assert round(count / 1e6, 2) == 6.70


def test_a_wider_network_has_about_four_times_the_parameters() -> None:
    with torch.device("meta"):
        counts = [sum(p.numel() for p in ICNet(CLASSES, width=width).parameters()) for width in (32, 64)]
    assert 3.9 < counts[1] / counts[0] < 4.0


@pytest.mark.parametrize(("height", "width"), [(64, 96), (128, 64)])
@pytest.mark.parametrize("classes", [2, 11])
def test_evaluation_gives_logits_at_a_quarter_of_the_size(height: int, width: int, classes: int) -> None:
    network = ICNet(classes).eval()
    with torch.no_grad():
        logits = network(torch.zeros(1, 3, height, width))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (1, classes, height // 4, width // 4)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (128, 64)])
def test_training_gives_logits_at_a_quarter_an_eighth_and_a_sixteenth(height: int, width: int) -> None:
    network = ICNet(CLASSES).train()
    outputs = network(torch.zeros(2, 3, height, width))
    assert [tuple(logits.shape) for logits in outputs] == [
        (2, CLASSES, height // step, width // step) for step in (4, 8, 16)
    ]
    assert len(network.loss_weights) == len(outputs)


def test_the_gradient_reaches_every_parameter(icnet: ICNet, images: torch.Tensor) -> None:
    network = with_uneven_statistics(icnet).train()
    sum((logits**2).mean() for logits in network(images)).backward()
    unreached = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert not unreached


def test_the_finest_prediction_alone_reaches_all_but_the_auxiliary_heads(icnet: ICNet, images: torch.Tensor) -> None:
    network = with_uneven_statistics(icnet).train()
    (network(images)[0] ** 2).mean().backward()
    unreached = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert unreached == {f"{head}.{what}" for head in network.auxiliary for what in ("weight", "bias")}


def test_every_branch_adds_to_the_prediction(icnet: ICNet, images: torch.Tensor) -> None:
    network = with_uneven_statistics(icnet)
    with torch.no_grad():
        whole = network(images)
        for branch in ("high", "conv5_4", "conv3_1"):
            without = deepcopy(network)
            for parameter in without.get_submodule(branch).parameters():
                parameter.zero_()
            assert (without(images) - whole).abs().max() > 1e-3 * whole.abs().max()


def test_a_prediction_does_not_depend_on_the_other_images_of_the_batch(icnet: ICNet, images: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(icnet(images)[:1], icnet(images[:1]), atol=1e-4, rtol=1e-4)


def test_fusing_batch_norms_leaves_the_prediction_as_it_is(icnet: ICNet, images: torch.Tensor) -> None:
    network = with_uneven_statistics(icnet)
    fused = fuse_batch_norm(network)
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules()), "the network itself is left alone"
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    with torch.no_grad():
        wanted = network(images)
        assert wanted.std() > 0.1
        torch.testing.assert_close(fused(images), wanted, atol=1e-3, rtol=1e-3)


def test_fusing_leaves_out_the_heads_that_only_training_uses(icnet: ICNet) -> None:
    kept = set(dict(fuse_batch_norm(icnet).named_parameters()))
    assert kept
    assert not any(name.startswith(icnet.auxiliary) for name in kept)


def test_fixing_the_size_changes_nothing_but_names_the_matrices_of_the_pyramid(
    icnet: ICNet, images: torch.Tensor
) -> None:
    fixed = deepcopy(icnet)
    fixed.fix_size(64, 96)
    named = {name for name, _ in fixed.named_buffers()} - {name for name, _ in icnet.named_buffers()}
    assert named == {f"pyramid.{axis}_{bins}" for axis in ("rows", "columns") for bins in (1, 2, 3, 6)}
    assert fixed.state_dict().keys() == icnet.state_dict().keys(), "they are no weights"
    with torch.no_grad():
        torch.testing.assert_close(fixed(images), icnet(images), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("size", "near"),
    [((100, 100), "96x96"), ((384, 650), "384x640"), ((0, 64), "32x64"), ((16, 16), "32x32"), ((63, 95), "64x96")],
)
def test_a_size_that_it_cannot_take_is_refused_with_the_nearest_that_it_can(
    icnet: ICNet, size: tuple[int, int], near: str
) -> None:
    with pytest.raises(OptionError, match=rf"multiples of 32, got {size[0]}x{size[1]}: try --size {near}$"):
        icnet.check_size(*size)


@pytest.mark.parametrize("size", [(32, 32), (384, 640), (1024, 2048)])
def test_every_multiple_of_32_is_a_good_size(icnet: ICNet, size: tuple[int, int]) -> None:
    icnet.check_size(*size)


class TestLabelNetwork:
    def test_labels_are_the_likeliest_classes_of_the_normalised_image_in_full_size(self, icnet: ICNet) -> None:
        frames = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        rgb = frames[..., [2, 1, 0]].permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            logits = icnet((rgb - mean) / std)
            full = nn.functional.interpolate(logits, size=(64, 96), mode="bilinear", align_corners=False)
            labels = LabelNetwork(icnet)(frames)
        assert (labels.dtype, labels.shape) == (torch.uint8, (1, 64, 96))
        assert len(labels.unique()) > 1
        assert (labels == full.argmax(1)).float().mean() >= 0.999

    def test_it_has_no_weights_but_those_of_the_network(self, icnet: ICNet) -> None:
        assert set(LabelNetwork(icnet).state_dict()) == {f"network.{name}" for name in icnet.state_dict()}


class TestCreateModel:
    def test_icnet_is_made_by_its_name(self) -> None:
        network = create_model("icnet", 5)
        assert isinstance(network, ICNet)
        assert network.classes == 5

    def test_an_unknown_name_is_refused_with_those_known(self) -> None:
        with pytest.raises(OptionError, match=r"unknown network 'resnet'; known are .*icnet"):
            create_model("resnet", 5)

    @pytest.mark.parametrize("classes", [0, -1, 256])
    def test_a_number_of_classes_that_labels_cannot_hold_is_refused(self, classes: int) -> None:
        with pytest.raises(OptionError, match=f"1 to 255 classes, got {classes}"):
            create_model("icnet", classes)
