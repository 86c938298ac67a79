"""Pictures as data: URIs, small enough for many of them to share a page."""

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sagd_cli.reporting.figures import METADATA, STYLE

DOTS = 130  # an inch: sharp on screens that show two dots for one
COLOURS_OF_A_FIGURE = 64
WIDEST = 1000  # pixels


@mpl.rc_context(STYLE)
def figure_uri(figure: Figure) -> str:
    """A figure as a PNG of 64 colours, which its few hues do not show."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS, metadata=METADATA[".png"])
    picture = Image.open(buffer).convert("RGB").quantize(COLOURS_OF_A_FIGURE, dither=Image.Dither.NONE)
    return _uri(picture, "PNG", optimize=True)


def image_uri(pixels: NDArray[np.uint8], largest: int) -> str:
    """Pixels (C, H, W), grey or RGB: exact as PNG where that takes at most `largest` bytes, else reduced JPEG."""
    from PIL import Image

    plane = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)
    picture = Image.fromarray(np.ascontiguousarray(plane))
    exact = _uri(picture, "PNG", optimize=True)
    quality = 85
    uri = exact
    while len(uri) > largest and quality > 20:
        picture.thumbnail((WIDEST, WIDEST))
        uri = _uri(picture, "JPEG", quality=quality, optimize=True)
        quality -= 15
    return uri


def _uri(picture: Any, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
