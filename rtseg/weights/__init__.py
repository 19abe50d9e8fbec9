"""The bundled models, and finding a model by name or path."""

from __future__ import annotations

from pathlib import Path

from rtseg.errors import ModelError
from rtseg.system.file_names import check_name

__all__ = ["DEFAULT_MODEL", "bundled_models", "find_model"]

DEFAULT_MODEL = "icnet-camvid"

_FOLDER = Path(__file__).parent


def bundled_models() -> dict[str, Path]:
    """Return the name and file of each bundled model."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.onnx"))}


def find_model(model: str | Path) -> Path:
    """Find a model file.

    Args:
        model: Path of an ``.onnx`` or ``.engine`` file, or the name of a bundled model.

    Raises:
        ModelError: There is no such model. The message lists the bundled models.
    """
    check_name(model)
    bundled = bundled_models()
    if not str(model):
        raise ModelError(f"--model is empty: give an .onnx file, or {' or '.join(bundled)}")
    if str(model) in bundled:
        return bundled[str(model)]
    path = Path(model)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise ModelError(f"{str(path)[:200]} cannot be accessed ({error.strerror}): check the path") from error
    if is_folder:
        raise ModelError(f"{path} is a folder: give the .onnx file in it")
    if not is_file and path.suffix == ".engine":
        raise ModelError(f"no engine at {path}: build one with `rtseg build-engine`")
    if not is_file:
        raise ModelError(
            f"no model {str(model)!r}: give an .onnx file written by `rtseg export`, or {' or '.join(bundled)}"
        )
    return path
