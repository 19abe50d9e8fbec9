from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rtseg.errors import OptionError
from rtseg.model_file.spec import VOID
from rtseg.training.mix import mix_classes, mix_rectangles, mix_views
from rtseg.training.options import Augmentation

SHAPE = (3, 40, 64)


def batch() -> tuple[Tensor, Tensor]:
    """Three views, whose images hold the class of the pixel and in the third channel the number of the view."""
    labels = torch.randint(0, 6, SHAPE, generator=torch.Generator().manual_seed(1))
    labels[:, :4] = VOID
    view = torch.arange(3)[:, None, None].expand(SHAPE)
    return torch.stack((labels, labels, view), 1).to(torch.uint8), labels


@pytest.mark.parametrize("mix", [mix_rectangles, mix_classes])
def test_image_and_labels_come_from_the_same_view(mix: object) -> None:
    torch.manual_seed(2)
    images, labels = mix(*batch(), 1.0)  # type: ignore[operator]
    assert torch.equal(images[:, 0].long(), labels)
    pasted = images[:, 2] != batch()[0][:, 2]
    assert torch.equal(images[:, 2][pasted], batch()[0][:, 2].roll(1, 0)[pasted])
    assert all(0.05 < share < 0.95 for share in pasted.float().mean((1, 2)).tolist())


def test_a_rectangle_has_half_of_the_area() -> None:
    torch.manual_seed(3)
    images, _ = mix_rectangles(*batch(), 1.0)
    for view, mixed in enumerate(images[:, 2]):
        pasted = mixed != view
        rows, columns = torch.nonzero(pasted, as_tuple=True)
        height, width = (int(axis.max() - axis.min()) + 1 for axis in (rows, columns))
        assert int(pasted.sum()) == height * width
        assert 0.45 < height * width / (40 * 64) < 0.55


def test_whole_classes_are_pasted_but_never_void() -> None:
    torch.manual_seed(4)
    plain_images, plain = batch()
    images, _ = mix_classes(plain_images, plain, 1.0)
    for view in range(3):
        donor = plain.roll(1, 0)[view]
        pasted = images[view, 2] != view
        chosen = set(donor[pasted].tolist())
        assert len(chosen) == 3
        assert VOID not in chosen
        assert torch.equal(pasted, torch.isin(donor, torch.tensor(sorted(chosen))))


@pytest.mark.parametrize("how", ["cutmix:0", "classmix:0"])
def test_a_share_of_zero_changes_nothing(how: str) -> None:
    for got, wanted in zip(mix_views(*batch(), how), batch(), strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("mix", ["cutmix:1", "classmix:1"])
def test_clips_are_mixed_alike_in_all_frames_for_rectangles_and_keep_their_shape(mix: str) -> None:
    images, labels = (torch.stack((part, part), 1) for part in batch())
    torch.manual_seed(5)
    mixed_images, mixed_labels = mix_views(images, labels, mix)
    assert mixed_images.shape == images.shape
    assert torch.equal(mixed_images[:, 0], mixed_images[:, 1])
    assert torch.equal(mixed_labels[:, 0], mixed_labels[:, 1])
    assert not torch.equal(mixed_labels, labels)


@pytest.mark.parametrize(
    "text", ["cutmix", "cutmix:2", "cutmix:-1", "mixup:0.5", "classmix:many", "classmix:nan", ":1"]
)
def test_a_malformed_mix_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--mix must be cutmix:SHARE or classmix:SHARE with a share"):
        Augmentation(mix=text)
