"""Griffe extension: show attributes without what they carry for the command line, and without how they are computed."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, get_args, get_origin

import griffe


class PlainTypes(griffe.Extension):
    """Replaces ``Annotated[X, ...]`` by ``X``, with the help of a shared option as the text of a field."""

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Change one attribute."""
        if "class-attribute" not in attr.labels and "instance-attribute" in attr.labels:
            attr.value = None  # an expression of ``__init__``
        annotation = attr.annotation
        if isinstance(annotation, griffe.ExprSubscript) and str(annotation.left) == "Annotated":
            elements = getattr(annotation.slice, "elements", None)
            attr.annotation = elements[0] if elements else annotation.slice
        elif isinstance(annotation, griffe.ExprName) and attr.docstring is None:
            _describe_shared_option(attr, annotation)


def _describe_shared_option(attr: griffe.Attribute, annotation: griffe.ExprName) -> None:
    """``model: ModelName`` becomes ``model: str`` with the help text of ``ModelName``."""
    module, _, name = annotation.canonical_path.rpartition(".")
    shared = getattr(import_module(module), name, None) if module.startswith("rtseg.") else None
    if get_origin(shared) is Annotated:
        plain, option, *_ = get_args(shared)
        attr.annotation = plain.__name__ if isinstance(plain, type) and not get_args(plain) else str(plain)
        attr.docstring = griffe.Docstring(option.help, parent=attr)
