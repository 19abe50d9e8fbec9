"""Exports a torch network of another library to a plain ONNX file."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from rtseg.deploy.export import silenced
from rtseg.errors import MissingExtra, ModelError

__all__ = ["export_to_onnx"]

_OPSET = 18


def export_to_onnx(network: nn.Module, size: tuple[int, int], path: Path) -> None:
    """Write ``network`` with the input ``images``, float (N, 3, H, W) for a free N, and the output ``scores``.

    Args:
        network: in evaluation mode; float (N, 3, H, W) -> scores (N, classes, h, w).
        size: (H, W).
        path: the file to write.

    Raises:
        ModelError: torch cannot export it at this size.
        MissingExtra: the exporter's package is not installed.
    """
    example = torch.zeros((2, 3, *size))
    batch = torch.export.Dim("N", min=1, max=1024)
    for dynamic in ({0: batch}, None):
        try:
            with warnings.catch_warnings(), silenced(), torch.no_grad():
                warnings.simplefilter("ignore")  # they are about the exporter itself
                torch.onnx.export(
                    network,
                    (example if dynamic else example[:1],),
                    str(path),
                    input_names=["images"],
                    output_names=["scores"],
                    dynamic_shapes=(dynamic,) if dynamic else None,
                    opset_version=_OPSET,
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                )
            return
        except ModuleNotFoundError as error:
            raise MissingExtra.for_feature("the ONNX exporter", error.name, "import") from error
        except Exception as error:  # noqa: BLE001 - the exporter raises anything for code that it cannot trace
            failure = error
    reason = next((line.strip() for line in str(failure).splitlines() if line.strip()), type(failure).__name__)
    raise ModelError(
        f"torch cannot export this network at {size[0]}x{size[1]} ({reason[:200]}): try another --size"
    ) from failure
