"""Pictures as data: URIs, small enough for many of them to share a page."""

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sagd_cli.figures.style import METADATA, STYLE

DOTS, FEWEST_DOTS = 130, 60  # for each inch; 130 are sharp on screens that show two dots for one
COLOURS_OF_A_FIGURE = 64
WIDEST, NARROWEST = 1000, 100  # pixels


@dataclass(frozen=True)
class Embedding:
    """Makes the URIs of a page; `share` is the share of their usual bytes that pictures may take."""

    share: float = 1.0

    @mpl.rc_context(STYLE)
    def figure(self, figure: Figure) -> str:
        """Return a figure as a PNG of 64 colours; its hues are few, so this cannot be seen."""
        from PIL import Image

        buffer = io.BytesIO()
        dots = max(FEWEST_DOTS, DOTS * math.sqrt(self.share))
        figure.savefig(buffer, format="png", dpi=dots, metadata=METADATA[".png"])
        picture = Image.open(buffer).convert("RGB").quantize(COLOURS_OF_A_FIGURE, dither=Image.Dither.NONE)
        return _uri(picture, "PNG", optimize=True)

    def image(self, pixels: NDArray[np.uint8], largest: int) -> str:
        """Return pixels (C, H, W), grey or RGB, as an exact PNG of at most `largest` bytes, else as a reduced JPEG."""
        from PIL import Image

        plane = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)
        picture = Image.fromarray(np.ascontiguousarray(plane))
        uri, most = _uri(picture, "PNG", optimize=True), largest * self.share
        quality, side = 85, WIDEST
        while len(uri) > most and side >= NARROWEST:
            picture.thumbnail((side, side))
            uri = _uri(picture, "JPEG", quality=quality, optimize=True)
            quality, side = max(25, quality - 15), side * 3 // 4
        return uri


def _uri(picture: Any, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
