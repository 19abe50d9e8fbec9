"""The published weights that rtseg knows: where they are, their hash, and what they may be used for."""

from __future__ import annotations

from dataclasses import dataclass

from rtseg.errors import OptionError

__all__ = ["PUBLISHED", "PublishedModel", "find_published"]


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """Weights that somebody publishes."""

    name: str
    """The argument of ``rtseg import``, e.g. ``torchvision:fcn_resnet50``."""
    classes: str
    """Preset of its classes."""
    trained_on: str
    licence: str
    miou: float
    """Published mean IoU, in [0, 1]."""
    measured_on: str
    miou_source: str
    """Where that figure is published."""
    is_free: bool
    """Whether the licence of the weights allows commercial use; terms of the training data may come on top."""
    url: str = ""
    """Of the weights; empty where a library downloads them."""
    sha256: str = ""
    """64 hex digits, or the first 8 where the publisher tells no more, or empty."""
    hash_source: str = ""
    """Where the hash is published."""
    size: int | None = None
    """In bytes, where it is known."""

    @property
    def command(self) -> str:
        """The command that downloads the weights."""
        return f"rtseg models get {self.name}"

    @property
    def file_name(self) -> str:
        """Name of the file with the weights."""
        return self.url.rpartition("/")[2]


_TORCHVISION_TERMS = (
    "BSD-3-Clause of torchvision, which states no licence for its weights; COCO images keep their owners' terms"
)
_LIBREYOLO = "https://huggingface.co/LibreYOLO/"


def _torchvision(name: str, file: str, miou: float, sha256: str, source: str, size: int | None) -> PublishedModel:
    return PublishedModel(
        name=f"torchvision:{name}",
        classes="voc",
        trained_on="COCO train2017, images with classes of VOC",
        licence=_TORCHVISION_TERMS,
        miou=miou,
        measured_on="COCO val2017, classes of VOC",
        miou_source="meta of torchvision's weights COCO_WITH_VOC_LABELS_V1",
        is_free=True,
        url=f"https://download.pytorch.org/models/{file}",
        sha256=sha256,
        hash_source=source,
        size=size,
    )


PUBLISHED = {
    model.name: model
    for model in (
        _torchvision(
            "lraspp_mobilenet_v3_large",
            "lraspp_mobilenet_v3_large-d234d4ea.pth",
            0.579,
            "d234d4ea",
            "the file's name, as torchvision names its files",
            None,
        ),
        _torchvision(
            "deeplabv3_mobilenet_v3_large",
            "deeplabv3_mobilenet_v3_large-fc3c493d.pth",
            0.603,
            "fc3c493d68e89cc31ef488c803d5d7dd2f3190fb570598faa49fef69be8e5e70",
            f"{_LIBREYOLO}LibreDeepLabv3mv3-sem and the file's name",
            44356159,
        ),
        _torchvision(
            "fcn_resnet50",
            "fcn_resnet50_coco-1167a1af.pth",
            0.605,
            "1167a1affa42e1e62858f8d3fac12d109e0108327ffc91c5855a324b11683c36",
            f"{_LIBREYOLO}LibreFCNr50 and the file's name",
            141567418,
        ),
        _torchvision(
            "fcn_resnet101",
            "fcn_resnet101_coco-7ecb50ca.pth",
            0.637,
            "7ecb50ca17844860a70d5ed0c748d997cf8adb62932abaa0233430c68594d749",
            f"{_LIBREYOLO}LibreFCNr101 and the file's name",
            217800805,
        ),
        _torchvision(
            "deeplabv3_resnet50",
            "deeplabv3_resnet50_coco-cd0a2569.pth",
            0.664,
            "cd0a25694c4a0f7106b38f4938bf90a874f2f241cc410b8f63c7024399538f06",
            f"{_LIBREYOLO}LibreDeepLabv3r50-sem and the file's name",
            168312152,
        ),
        _torchvision(
            "deeplabv3_resnet101",
            "deeplabv3_resnet101_coco-586e9e4e.pth",
            0.674,
            "586e9e4e203fcbf17e1ad45533d8d33ab133fc762bf03101c5dd743995c08c0d",
            f"{_LIBREYOLO}LibreDeepLabv3r101-sem and the file's name",
            244545539,
        ),
    )
}
"""Name -> model."""


def find_published(name: str) -> PublishedModel:
    """Return the entry ``name``; ``torchvision:`` may be left out.

    Raises:
        OptionError: there is none.
    """
    for candidate in (name, f"torchvision:{name}"):
        if candidate in PUBLISHED:
            return PUBLISHED[candidate]
    raise OptionError(f"no published model {name!r} is known; known are {', '.join(PUBLISHED)}")
