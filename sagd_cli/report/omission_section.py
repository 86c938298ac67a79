"""An omission, laid out for the page of a report: images before and after, and how much better they are."""

from typing import Any

import numpy as np

from sagd_cli.data.outcome import RestoredImage
from sagd_cli.data.ranges import Signal, image_pixels
from sagd_cli.report.embed import Embedding
from sagd_cli.report.html import Picture, Subsection, Table
from sagd_cli.report.omissions import OmissionRecord, file_name
from sagd_cli.restoration.words import PART_HEADINGS, part_rows

LARGEST_IMAGE = 30_000  # bytes
MOST_TABLE_ROWS = 12
QUALITIES = ("psnr_before", "psnr", "ssim_before", "ssim")


def omission_section(omission: OmissionRecord, embed: Embedding) -> Subsection:
    """Lay out an omission: its settings and means in words, its first images, and a table to unfold."""
    pictures = [picture for image in omission.images for picture in _pictures(image, embed)]
    words = _words(omission.result)
    return Subsection(f"Omission: {omission.name}", words, pictures, folded=_folded(omission.result["files"]))


def _words(result: dict[str, Any]) -> list[str]:
    method, strength = result.get("method", "method not recorded"), _strength(result)
    noise = (
        f"Band {result['band']}"
        if result["band"]
        else f"Noise {result.get('noise') or 'found in each image'}"
    )
    words = [f"{noise}, {method}, strength {strength}."]
    means = [_gain(result, *gain) for gain in (("PSNR", "psnr", " dB"), ("SSIM", "ssim", ""))]
    if any(means):
        words.append(f"Means over {len(result['files'])} images: {', '.join(filter(None, means))}.")
    return words


def _strength(result: dict[str, Any]) -> str:
    strength = result.get("strength")
    return f"{strength:.3g}" if isinstance(strength, int | float) else str(strength or "not recorded")


def _gain(result: dict[str, Any], name: str, key: str, unit: str) -> str:
    """Return a mean before and after, in words; nothing when it was not measured."""
    if f"{key}_mean" not in result:
        return ""
    before, after = result[f"{key}_before_mean"], result[f"{key}_mean"]
    return f"{name} {before:.4g}{unit} before, {after:.4g}{unit} after"


def _pictures(image: RestoredImage, embed: Embedding) -> list[Picture]:
    psnr = image.record.get("psnr")
    reached = f", {psnr:.1f} dB" if isinstance(psnr, int | float) else ""
    return [
        Picture(_embedded(signal, embed), f"{image.name}: {text}", pixelated=True)
        for signal, text in ((image.before, "before"), (image.after, f"after{reached}"))
    ]


def _embedded(signal: Signal, embed: Embedding) -> str:
    return embed.image(image_pixels(signal, np.dtype(np.uint8)), LARGEST_IMAGE)


def _folded(files: list[dict[str, Any]]) -> list[tuple[str, Table | str]]:
    """Return the table of the first files, with what was measured on all of them, and the parts of their noise."""
    keys = [key for key in QUALITIES if all(key in file for file in files)]
    rows = [(file_name(file), *(f"{file[key]:.4g}" for key in keys)) for file in files[:MOST_TABLE_ROWS]]
    title = f"The first {len(rows)} of {len(files)} images"
    parts = [(file_name(file), *row) for file in files[:MOST_TABLE_ROWS] for row in part_rows(file)]
    return [
        *([(title, Table(("image", *keys), rows))] if keys else []),
        *([("The parts of the noise", Table(("image", *PART_HEADINGS), parts))] if parts else []),
    ]
