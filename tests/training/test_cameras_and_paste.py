from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rtseg.errors import OptionError
from rtseg.model_file.spec import VOID
from rtseg.training.cameras import imitate_cameras
from rtseg.training.options import Augmentation
from rtseg.training.paste import paste_rare

RARE = torch.tensor([False, True, False])


def changed(seed: int, images: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(seed)
    return imitate_cameras(images)


def batch() -> tuple[Tensor, Tensor]:
    """Four views of class 0, each of its own grey; in view n, column n is of the rare class 1, and column 7 is void."""
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 4, 8) * 10 + 5
    labels = torch.zeros(4, 4, 8, dtype=torch.long)
    labels[:, :, 7] = VOID
    for view in range(4):
        labels[view, :, view] = 1
    return images.clone(), labels


class TestCameras:
    def test_the_images_keep_shape_and_type_and_no_value_wraps_around(self) -> None:
        black, white = torch.zeros(3, 32, 48, dtype=torch.uint8), torch.full((3, 32, 48), 255, dtype=torch.uint8)
        for seed in range(40):
            dark, bright = changed(seed, [black, white])
            assert (dark.shape, dark.dtype) == (bright.shape, bright.dtype) == (black.shape, torch.uint8)
            assert dark.float().mean() < bright.float().mean()

    def test_a_seed_gives_the_same_image_and_another_seed_another_one(self) -> None:
        image = torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
        assert torch.equal(changed(1, [image])[0], changed(1, [image])[0])
        assert len({changed(seed, [image])[0].sum().item() for seed in range(8)}) == 8

    def test_views_become_darker_about_as_often_as_brighter(self) -> None:
        grey = torch.full((3, 16, 16), 110, dtype=torch.uint8)
        brighter = sum(bool(changed(seed, [grey])[0].float().mean() > 110) for seed in range(300))
        assert 100 < brighter < 200

    def test_the_images_of_a_clip_are_changed_alike(self) -> None:
        image = torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
        for seed in range(20):
            first, second = changed(seed, [image, image])
            difference = (first.float() - second.float()).abs().mean()  # only the noise differs
            assert difference < 25


class TestPaste:
    def test_only_the_rare_class_is_pasted_with_its_pixels_and_from_the_view_before(self) -> None:
        images, labels = batch()
        torch.manual_seed(0)
        new_images, new_labels = paste_rare(images, labels, RARE, 1.0)
        pasted = new_images[:, 0] != images[:, 0]
        assert pasted.any()
        assert (new_labels[pasted] == 1).all()
        assert torch.equal(new_labels[~pasted], labels[~pasted])
        before = images.roll(1, 0)[:, 0]
        assert torch.equal(new_images[:, 0][pasted], before[pasted])
        assert pasted.sum((1, 2)).unique().tolist() == [0, 4]  # the column of a view, or nothing

    def test_about_half_of_the_views_get_a_given_class_if_the_share_is_one_and_none_if_it_is_zero(self) -> None:
        images, labels = batch()
        torch.manual_seed(0)
        counts = [
            int((paste_rare(images, labels, RARE, share)[0] != images).flatten(1).any(1).sum())
            for share in (1.0, 0.0)
            for _ in range(100)
        ]
        assert 150 < sum(counts[:100]) < 250
        assert sum(counts[100:]) == 0

    def test_clips_are_pasted_into_frame_by_frame(self) -> None:
        images, labels = (part[:, None].repeat_interleave(2, 1) for part in batch())
        torch.manual_seed(0)
        new_images, new_labels = paste_rare(images, labels, RARE, 1.0)
        assert (new_images.shape, new_labels.shape) == (images.shape, labels.shape)
        assert torch.equal(new_labels[:, 0], new_labels[:, 1])
        assert not torch.equal(new_labels, labels)

    @pytest.mark.parametrize("share", [-0.1, 1.5])
    def test_a_share_out_of_range_is_refused(self, share: float) -> None:
        with pytest.raises(OptionError, match=r"--paste must be a share in \[0, 1\]"):
            Augmentation(paste=share)
