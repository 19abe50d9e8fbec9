from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.extra_channel_images import noise, to_tensor
from helpers.networks import run_network
from torch import nn

from rtseg.errors import OptionError
from rtseg.image_io.decode import image_channels
from rtseg.models import MODELS, channels_of, create_model, is_known
from rtseg.models.cost import compute_cost
from rtseg.models.deeplabv3 import ImagePooling
from rtseg.models.fcn import BilinearUpsampling
from rtseg.models.label_network import LabelNetwork, normalise

CHANNELS = [
    *("icnet", "icnet-gru", "icnet-resnet18", "deeplabv3-mobilenet", "deeplabv3plus-mobilenet", "fcn-resnet18"),
    "fcn32s-vgg11",
]


def test_the_table_of_networks_needs_no_torch() -> None:
    program = "import sys, rtseg.models; print(len(rtseg.models.MODELS), 'torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.split() == [str(len(MODELS)), "False"]


@pytest.mark.parametrize(
    ("given", "options", "architecture"),
    [
        ("icnet", {}, "icnet"),
        ("icnet:width=16", {}, "icnet:width=16"),
        ("icnet:width=16", {"width": 8}, "icnet:width=8"),
        ("icnet", {"pyramid": False, "channels": 1}, "icnet:channels=1,pyramid=false"),
        ("icnet:loss_weights=1/0.5/0.25", {}, "icnet:loss_weights=1/0.5/0.25"),
        ("icnet", {"loss_weights": (1.0, 0.2, 0.2)}, "icnet:loss_weights=1.0/0.2/0.2"),
        ("icnet:pretrained=false", {}, "icnet"),
        ("fcn8s-vgg11:hidden=32,norm=true", {}, "fcn8s-vgg11:hidden=32,norm=true"),
    ],
)
def test_the_architecture_is_one_text_that_builds_the_network_again(
    given: str, options: dict[str, object], architecture: str
) -> None:
    with torch.device("meta"):
        network = create_model(given, 3, **options)  # type: ignore[arg-type]
        again = create_model(network.architecture, 3)
    assert network.architecture == again.architecture == architecture
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in again.state_dict().items()
    }
    assert network.loss_weights == again.loss_weights


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("resnet", r"^unknown network 'resnet'; known are ddrnet23, .*, seaformer-tiny$"),
        (
            "icnet:depth=18",
            r"^network 'icnet' has no option 'depth'; it has channels, loss_weights, pretrained, pyramid, width$",
        ),
        ("icnet-resnet18:depth=50", r"has no option 'depth'"),
        ("icnet:width", r"cannot parse the options in 'icnet:width': write NAME:key=value,key=value"),
        ("icnet:width=1,width=2", r"cannot parse the options"),
        ("icnet:width=wide", r"^option width of network 'icnet' must be an integer, got 'wide'$"),
        ("icnet:width=0.5", r"must be an integer, got '0.5'"),
        ("icnet:width=true", r"must be an integer, got 'true'"),
        ("icnet:pyramid=1", r"must be true or false, got '1'"),
        ("icnet:loss_weights=1", r"must be numbers like 1/0.4, got '1'"),
        ("icnet:loss_weights=1/a", r"must be numbers like 1/0.4, got '1/a'"),
        ("icnet:loss_weights=1/0.4", r"has three predictions: write loss_weights=1/0.4/0.4, got 2"),
        ("icnet:width=0", r"width of ICNet must be at least 1, got 0"),
        ("icnet:channels=5", r"images of 1 to 4 channels, got 5"),
        ("fcn-resnet18:step=16", r"step of fcn-resnet18 must be 8 or 32, got 16"),
        ("fcn32s-vgg16:hidden=0", r"hidden of FCN must be at least 1, got 0"),
    ],
)
def test_a_wrong_architecture_is_refused_in_one_line_that_says_what_is_right(given: str, message: str) -> None:
    with pytest.raises(OptionError, match=message), torch.device("meta"):
        create_model(given, 3)


def test_a_network_is_known_by_its_name_whatever_its_options() -> None:
    assert is_known("icnet")
    assert is_known("icnet:width=8")
    assert not is_known("")
    assert not is_known("pspnet")


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", CHANNELS)
def test_images_may_have_one_to_four_channels(name: str, channels: int) -> None:
    network = create_model(name, 3, channels=channels).eval()
    with torch.no_grad():
        logits = run_network(network, torch.zeros(1, channels, 64, 64))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape[:2] == (1, 3)


class TestChannels:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_a_network_gets_the_same_input_in_training_and_in_the_model_file(self, channels: int) -> None:
        class Show(nn.Module):
            classes, stride, recurrent = 2, 1, False

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                self.seen = images
                return torch.cat((images, -images), 1)

        show = Show()
        show.channels = channels  # type: ignore[assignment]
        frames = np.stack([noise(image_channels(channels)), noise(image_channels(channels))[::-1]])
        LabelNetwork(show)(torch.from_numpy(frames))  # type: ignore[arg-type]
        assert show.seen.shape == (2, channels, 6, 7)
        trained_on = normalise(torch.stack([to_tensor(frame) for frame in frames]), channels)
        torch.testing.assert_close(show.seen, trained_on)

    def test_colours_and_grey_are_normalised_by_imagenet_and_the_extra_channel_by_its_middle(self) -> None:
        mean = [0.485, 0.456, 0.406]
        grey = 0.299 * mean[0] + 0.587 * mean[1] + 0.114 * mean[2]
        for channels, planes in ((1, mean), (2, [grey, 0.5]), (3, mean), (4, [*mean, 0.5])):
            images = 255 * torch.tensor(planes).view(1, -1, 1, 1)
            torch.testing.assert_close(normalise(images, channels), torch.zeros(1, channels, 1, 1), atol=1e-5, rtol=0)
        ends = normalise(torch.tensor([0.0, 255.0]).repeat(2, 1).view(1, 2, 1, 2), 2)[0, 1].flatten()
        torch.testing.assert_close(ends, torch.tensor([-2.0, 2.0]), atol=1e-5, rtol=0)

    def test_images_of_other_channels_than_the_network_is_given_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"images must be \(N, 4, H, W\) for 4 channels, got \(1, 3, 8, 8\)"):
            normalise(torch.zeros(1, 3, 8, 8), 4)

    @pytest.mark.parametrize(
        ("architecture", "channels"),
        [("icnet", 3), ("icnet:width=4,channels=1", 1), ("icnet:channels=2", 2), ("fcn-resnet18:channels=4", 4)],
    )
    def test_they_are_known_from_the_architecture_before_the_network_is_built(
        self, architecture: str, channels: int
    ) -> None:
        assert channels_of(architecture) == channels
        assert create_model(architecture, 2).channels == channels

    @pytest.mark.parametrize("written", ["0", "5", "2.0", "true", "grey"])
    def test_others_than_1_to_4_are_refused(self, written: str) -> None:
        with pytest.raises(OptionError, match=f"a network takes images of 1 to 4 channels, got '{written}'"):
            channels_of(f"icnet:channels={written}")


@pytest.mark.parametrize("factor", [2, 8, 32])
def test_a_fresh_transposed_convolution_is_bilinear_interpolation(factor: int) -> None:
    maps = torch.randn((1, 3, 4, 5), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got = BilinearUpsampling(3, factor)(maps)
    wanted = nn.functional.interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=False)
    inner = slice(factor // 2, -(factor // 2))  # at the border the interpolation repeats what the kernel sees as zero
    torch.testing.assert_close(got[..., inner, inner], wanted[..., inner, inner])
    assert got.shape == wanted.shape


def test_image_pooling_is_the_same_with_and_without_a_fixed_size() -> None:
    pooling = ImagePooling(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1))
    maps = torch.randn((2, 3, 4, 6), generator=torch.Generator().manual_seed(1))
    free = pooling(maps)
    pooling.fix_size(4, 6)
    torch.testing.assert_close(pooling(maps), free)
    assert free.shape == (2, 2, 4, 6)


class TestCost:
    def test_a_network_of_known_size_has_the_parameters_and_operations_that_are_worked_out_by_hand(self) -> None:
        cost = compute_cost("fcn32s-vgg11:hidden=8", 2, (32, 32))
        widths = [(3, 64, 32), (64, 128, 16), (128, 256, 8), (256, 256, 8), (256, 512, 4), (512, 512, 4)]
        widths += [(512, 512, 2), (512, 512, 2)]
        kernels = [9 * a * b for a, b, _ in widths] + [49 * 512 * 8, 8 * 8, 8 * 2]
        places = [side**2 for _, _, side in widths] + [1, 1, 1]
        biases = sum(b for _, b, _ in widths) + 8 + 8 + 2
        assert cost.parameters == sum(kernels) + biases + 2 * 64 * 64
        assert cost.flops == 2 * (sum(k * n for k, n in zip(kernels, places, strict=True)) + 2 * 64 * 64)

    def test_the_heads_of_training_do_not_count(self) -> None:
        with torch.device("meta"):
            network = create_model("fcn-resnet50", 21)
        aux = sum(value.numel() for value in network.get_submodule("aux_classifier").parameters())
        total = sum(value.numel() for value in network.parameters())
        assert compute_cost("fcn-resnet50", 21, (64, 64)).parameters == total - aux
        assert aux > 1_000_000

    def test_a_size_that_the_network_cannot_take_is_refused(self) -> None:
        with pytest.raises(OptionError, match="multiples of 32"):
            compute_cost("icnet", 11, (100, 100))
