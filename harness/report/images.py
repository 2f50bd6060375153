"""Encodes the images of a page: PNG for few colors, else JPEG."""

from __future__ import annotations

import base64
import io

from PIL import Image

TILE = 192  # pixels; larger images are shown smaller, as JPEG


def encode(image: Image.Image) -> tuple[str, bytes]:
    """Return the format, `png` or `jpeg`, and the bytes of an image."""
    stream = io.BytesIO()
    if image.width <= 2 * TILE and image.getcolors(4096) is not None:
        image.quantize(128).save(stream, "PNG", optimize=True)
        return "png", stream.getvalue()
    image.save(stream, "JPEG", quality=82)
    return "jpeg", stream.getvalue()


def data_uri(image: Image.Image) -> str:
    """Return the image as a data URI."""
    kind, content = encode(image)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
