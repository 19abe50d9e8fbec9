"""Random changes that imitate other cameras, light and weather, for images of one training view.

Each change is applied with its own probability, with the same parameters to all images of a clip. Exposure and gamma
are symmetric in their logarithm: a view becomes darker as often as brighter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses
from torchvision.transforms import v2

from rtseg.system.opencv import cv2

__all__ = ["imitate_cameras"]

Change = Callable[[Tensor], Tensor]
"""From float (N, 3, h, w), RGB in [0, 1], to the same; values may leave the range."""

_STREAK = 15
"""Length of a rain streak, in pixels."""


def imitate_cameras(images: list[Tensor]) -> list[Tensor]:
    """Change the images of one view, each uint8 (3, h, w), RGB. Uses torch's global random state."""
    values = torch.stack(images).float() / 255
    for probability, make in _CHANGES:
        if torch.rand(()) < probability:
            values = make(values.shape[-2], values.shape[-1])(values).clamp(0, 1)
    changed = (values * 255).round().to(torch.uint8)
    if torch.rand(()) < _JPEG:
        quality = int(torch.randint(15, 80, ()))
        return [_jpeg(image, quality) for image in changed]
    return list(changed)


def _jpeg(image: Tensor, quality: int) -> Tensor:
    _, encoded = cv2.imencode(".jpg", image.permute(1, 2, 0).numpy(), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return torch.from_numpy(cv2.imdecode(encoded, cv2.IMREAD_COLOR)).permute(2, 0, 1)


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _exposure(_height: int, _width: int) -> Change:
    gain = math.exp(_uniform(-0.6, 0.6))
    return lambda values: values * gain


def _gamma(_height: int, _width: int) -> Change:
    exponent = math.exp(_uniform(-0.4, 0.4))
    return lambda values: values**exponent


def _white_balance(_height: int, _width: int) -> Change:
    gains = torch.exp(0.3 * torch.rand(3, 1, 1) - 0.15)
    return lambda values: values * gains


def _contrast(_height: int, _width: int) -> Change:
    factor = math.exp(_uniform(-0.35, 0.35))
    return lambda values: (values - values.mean()) * factor + values.mean()


def _saturation(_height: int, _width: int) -> Change:
    factor = _uniform(0.2, 1.7)
    return lambda values: torch.lerp(values.mean(1, keepdim=True), values, factor)


def _shadow(height: int, width: int) -> Change:
    """Darken the band between two almost parallel lines, as the shadow of a house, a bridge or a tree does."""
    angle, center = _uniform(0, math.pi), torch.tensor([_uniform(0.3, 1), _uniform(0, 1)])
    rows, columns = torch.arange(height)[:, None] / height - center[0], torch.arange(width) / width - center[1]
    distance = (rows * math.cos(angle) + columns * math.sin(angle)).abs()
    softness = _uniform(0.005, 0.05)
    shade = torch.sigmoid((_uniform(0.05, 0.35) - distance) / softness) * _uniform(0.2, 0.7)
    return lambda values: values * (1 - shade)


def _haze(height: int, _width: int) -> Change:
    """Mix with grey, most at the horizon: I t + A (1 - t), Narasimhan and Nayar, IJCV 2002, equation 4."""
    light, density = _uniform(0.6, 1.0), _uniform(0.1, 0.6)
    rows = torch.arange(height)[:, None] / height
    share = density * torch.exp(-(((rows - _uniform(0.3, 0.5)) / 0.35) ** 2))
    return lambda values: torch.lerp(values, torch.full_like(values, light), share)


def _rain(height: int, width: int) -> Change:
    """Add bright streaks, all at one angle."""
    drops = (torch.rand(1, 1, height, width) < 0.003).float()
    slope = _uniform(-0.4, 0.4)
    kernel = torch.zeros(_STREAK, _STREAK)
    for row in range(_STREAK):
        kernel[row, round(_STREAK // 2 + slope * (row - _STREAK // 2))] = _uniform(0.1, 0.3)
    streaks = F.conv2d(drops, kernel[None, None], padding=_STREAK // 2)
    return lambda values: values + streaks


def _noise(height: int, width: int) -> Change:
    deviation = _uniform(0.01, 0.06)
    return lambda values: values + deviation * torch.randn(values.shape[0], 3, height, width)


def _blur(_height: int, _width: int) -> Change:
    deviation = _uniform(0.3, 2.0)
    return lambda values: v2.functional.gaussian_blur(values, [7, 7], [deviation, deviation])


_CHANGES: tuple[tuple[float, Callable[[int, int], Change]], ...] = (
    (0.25, _shadow),
    (0.15, _haze),
    (0.05, _rain),
    (0.8, _exposure),
    (0.5, _gamma),
    (0.6, _white_balance),
    (0.5, _contrast),
    (0.5, _saturation),
    (0.2, _blur),
    (0.3, _noise),
)
"""Probability of each change, in the order of the light's way: scene, lens, sensor."""
_JPEG = 0.2
