"""Labels single images that viewers send."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from rtseg.app.model_pool import ModelPool
from rtseg.frame import Labels
from rtseg.image_io.decode import ImageError, decode_image, to_bgr
from rtseg.image_io.indexed_png import palette_png
from rtseg.metrics.class_shares import class_shares
from rtseg.preprocess import Prepare, resize_labels
from rtseg.sinks.masks import mask_palette
from rtseg.visualize.overlay import Overlay
from rtseg.web.body import read_body
from rtseg.web.painting import encode_jpeg
from rtseg.web.source_run import SourceRun
from rtseg.web.threads import WorkThreads

__all__ = ["Prediction"]

_MAX_BYTES = 16 << 20
_MAX_PIXELS = 40_000_000
_MAX_WAITING = 8
"""Images that may be on their way, wait for their turn, or be in work: the memory that they need is bounded."""


class Prediction:
    """Labels images with the model of a source, one at a time. Use it on one event loop.

    Args:
        pool: opens the model, if no run has it open.
        threads: on which it is used.
    """

    def __init__(self, pool: ModelPool, threads: WorkThreads) -> None:
        self._pool = pool
        self._threads = threads
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def __call__(self, request: Request, source: SourceRun) -> dict[str, Any]:
        """Label the image file that is sent; returns its size, the shares of the classes, mask and overlay.

        Raises:
            HTTPException: 415 if it is no image that can be read, 503 if too many wait; or see ``read_body``.
        """
        if self._waiting >= _MAX_WAITING:
            raise HTTPException(503, "too many images wait: try again soon")
        self._waiting += 1
        try:
            data = await read_body(request, _MAX_BYTES)
            async with self._turn:
                return await self._threads.run(self._label, data, source)
        except ImageError as error:
            raise HTTPException(415, f"the image {error}") from error
        finally:
            self._waiting -= 1

    def _label(self, data: bytes, source: SourceRun) -> dict[str, Any]:
        with self._pool.open(source.camera.options, "latency") as backend:
            spec = backend.spec
            image = decode_image(data, spec.channels, max_pixels=_MAX_PIXELS)
            batch = Prepare(spec)(image)[None]
            labels: Labels = resize_labels(backend.infer(batch)[0].copy(), (image.shape[0], image.shape[1]))
        shares = class_shares(labels, len(spec.classes))
        overlay = encode_jpeg(Overlay(spec).draw(to_bgr(image), labels))
        return {
            "model": spec.name,
            "width": image.shape[1],
            "height": image.shape[0],
            "shares": {name: round(float(share), 6) for name, share in zip(spec.classes, shares, strict=True)},
            "mask_png": base64.b64encode(palette_png(labels, mask_palette(spec))).decode(),
            "overlay_jpeg": base64.b64encode(overlay).decode(),
        }
