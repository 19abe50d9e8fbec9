"""The models that come with rtseg, and finding a model by name or path."""

from __future__ import annotations

from pathlib import Path

from rtseg.errors import ModelError

__all__ = ["DEFAULT_MODEL", "bundled_models", "find_model"]

DEFAULT_MODEL = "icnet-camvid"

_FOLDER = Path(__file__).parent


def bundled_models() -> dict[str, Path]:
    """Name -> model file of every bundled model."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.onnx"))}


def find_model(model: str | Path) -> Path:
    """The file of a model, an ``.onnx`` or an ``.engine``, given by its path or by the name of a bundled one.

    Raises:
        ModelError: it is neither; the text says what there is.
    """
    bundled = bundled_models()
    if not str(model):
        raise ModelError(f"--model is empty: give an .onnx file, or {' or '.join(bundled)}")
    if str(model) in bundled:
        return bundled[str(model)]
    path = Path(model)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise ModelError(f"{str(path)[:200]} cannot be looked up ({error.strerror}): check the path") from error
    if is_folder:
        raise ModelError(f"{path} is a folder: give the .onnx file in it")
    if not is_file and path.suffix == ".engine":
        raise ModelError(f"no engine at {path}: make one with `rtseg build-engine`")
    if not is_file:
        raise ModelError(
            f"no model {str(model)!r}: give an .onnx file made by `rtseg export`, or {' or '.join(bundled)}"
        )
    return path
