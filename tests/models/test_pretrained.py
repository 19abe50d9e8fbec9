from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model, get_model_weights

from rtseg.errors import CheckpointError, OptionError
from rtseg.models import create_model
from rtseg.models.pretrained import adapt_kernel, fit_weights

SEGMENTATION = {
    "deeplabv3-mobilenet": "deeplabv3_mobilenet_v3_large",
    "deeplabv3-resnet50": "deeplabv3_resnet50",
    "fcn-resnet50": "fcn_resnet50",
}
TRUNKS = {
    "icnet-resnet18": ("resnet18", "trunk.", ""),
    "icnet-resnet50": ("resnet50", "trunk.", ""),
    "fcn-resnet18": ("resnet18", "trunk.", ""),
    "deeplabv3plus-resnet50": ("resnet50", "trunk.", ""),
    "deeplabv3plus-mobilenet": ("mobilenet_v3_large", "trunk.", "features."),
    "fcn8s-vgg11": ("vgg11", "features.", "features."),
    "fcn32s-vgg11:norm=true": ("vgg11_bn", "features.", "features."),
}


class Hub:
    """What torchvision would download: drawn weights of the published names and shapes."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.offered: dict[str, Tensor] = {}

    def offer(self, name: str, **options: Any) -> dict[str, Tensor]:
        network = get_model(name, weights=None, **options)
        generator = torch.Generator().manual_seed(4)
        for value in network.state_dict().values():
            if value.ndim == 1:  # kernels are drawn already
                value.uniform_(0.5, 1.5, generator=generator)
        self.offered = network.state_dict()
        return self.offered

    def load(self, url: str, **options: Any) -> dict[str, Tensor]:
        assert options["weights_only"]
        assert options["check_hash"]
        self.urls.append(url)
        return dict(self.offered)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", hub.load)
    return hub


@pytest.mark.parametrize("name", SEGMENTATION)
def test_a_segmentation_network_with_published_weights_is_that_of_torchvision(hub: Hub, name: str) -> None:
    weights = hub.offer(SEGMENTATION[name], weights_backbone=None, num_classes=21, aux_loss=True)
    original = get_model(SEGMENTATION[name], weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    original.load_state_dict(weights)
    network = create_model(name, 21, pretrained=True).eval()
    images = torch.randn((1, 3, 64, 96), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = network(images)
        wanted = original.eval()(images)["out"]
    assert isinstance(logits, Tensor)
    larger = torch.nn.functional.interpolate(logits, wanted.shape[2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(larger, wanted)
    assert hub.urls == [get_model_weights(SEGMENTATION[name]).DEFAULT.url]
    assert "pretrained" not in network.architecture


def test_only_heads_for_another_number_of_classes_have_random_weights(hub: Hub) -> None:
    weights = hub.offer("deeplabv3_mobilenet_v3_large", weights_backbone=None, num_classes=21, aux_loss=True)
    own = create_model("deeplabv3-mobilenet", 4, pretrained=True).state_dict()
    anew = [name for name in own if own[name].shape != weights[name].shape or not torch.equal(own[name], weights[name])]
    assert anew == ["classifier.4.weight", "classifier.4.bias", "aux_classifier.4.weight", "aux_classifier.4.bias"]
    assert all(own[name].shape[0] == 4 for name in anew)


@pytest.mark.parametrize("name", TRUNKS)
def test_a_trunk_is_published_and_its_classifier_is_left(hub: Hub, name: str) -> None:
    published, ours, theirs = TRUNKS[name]
    weights = hub.offer(published)
    own = create_model(name, 4, pretrained=True).state_dict()
    loaded = [key for key in own if key.startswith(ours)]
    assert len(loaded) >= 16
    for key in loaded:
        assert torch.equal(own[key], weights[theirs + key.removeprefix(ours)]), key
    assert hub.urls == [get_model_weights(published).DEFAULT.url]


def test_fc6_and_fc7_of_4096_channels_are_published_too(hub: Hub) -> None:
    weights = hub.offer("vgg11")
    own = create_model("fcn32s-vgg11:hidden=4096,pretrained=true", 4).state_dict()
    assert torch.equal(own["head.0.weight"].flatten(1), weights["classifier.0.weight"])
    assert torch.equal(own["head.3.weight"].flatten(1), weights["classifier.3.weight"])
    assert torch.equal(own["head.3.bias"], weights["classifier.3.bias"])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_first_convolution_answers_grey_images_as_the_published_one(channels: int) -> None:
    kernel = torch.randn((5, 3, 3, 3), generator=torch.Generator().manual_seed(1))
    adapted = adapt_kernel(kernel, channels)
    assert adapted.shape == (5, channels, 3, 3)
    torch.testing.assert_close(adapted.sum(1), kernel.sum(1))
    assert adapted[:, -1].any() == (channels in (1, 3)), "the extra channel starts at zero"


def test_the_first_convolution_for_four_channels_starts_with_the_published_rgb_weights(hub: Hub) -> None:
    weights = hub.offer("resnet18")
    own = create_model("icnet-resnet18", 4, pretrained=True, channels=4).state_dict()
    assert torch.equal(own["trunk.conv1.weight"][:, :3], weights["conv1.weight"])
    assert not own["trunk.conv1.weight"][:, 3].any()


def test_without_a_network_the_refusal_is_one_line_quick_and_says_both_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no server listens there
    monkeypatch.setattr("urllib.request._opener", None)  # kept with the proxies of the first use in this process
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        create_model("icnet-resnet18", 4, pretrained=True)
    assert time.monotonic() - started < 10
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("cannot download the published weights https://download.pytorch.org/models/resnet18")
    assert "refused" in text
    assert text.endswith(f"train without pretrained, or put that file into {tmp_path}/hub/checkpoints")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_damaged_download_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match="cannot download the published weights"):
        create_model("icnet-resnet18", 4, pretrained=True)


def test_a_network_without_published_weights_is_refused() -> None:
    with pytest.raises(OptionError, match="there are no published weights for 'icnet': leave out pretrained"):
        create_model("icnet", 4, pretrained=True)


def test_weights_of_something_else_are_refused(hub: Hub) -> None:
    hub.offer("mobilenet_v3_large")
    with pytest.raises(CheckpointError, match=r"the published weights lack conv1.weight and \d+ more"):
        create_model("icnet-resnet18", 4, pretrained=True)


def test_a_tensor_without_a_place_or_of_another_shape_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match="the network has no weights 'b'"):
        fit_weights({"a": torch.zeros(2)}, {"b": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"weights 'a' have shape \(3,\), the network has \(2,\)"):
        fit_weights({"a": torch.zeros(2)}, {"a": torch.zeros(3)})
