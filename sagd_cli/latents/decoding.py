"""The autoencoder that decodes the samples of a run: the one its data name, or one that is given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sagd_cli.errors import UsageError
from sagd_cli.latents.autoencoder import Autoencoder, load_autoencoder
from sagd_cli.system.console import output


def find_decoder(
    latents: Mapping[str, Any] | None, run: Path, given: Path | None, device: torch.device
) -> Autoencoder | None:
    """Return the autoencoder of the data of `run`, or None where they name none, or one that is not there.

    `latents` is what the data say of it, None of data that are not encoded. `given` is a folder to take. Otherwise it
    is looked for where it was, from the current folder or from the run's. A note says when it is not there. Raises
    UsageError when it is another one than the data were encoded with, and what loading raises.
    """
    named = (latents or {}).get("autoencoder")
    path = given or next((found for found in _places(named, run) if found.is_dir()), None)
    if path is None:
        if named:
            output().once(
                f"the samples of {run} are latents; their autoencoder {named} is not there, and --autoencoder DIR "
                "gives it to decode them"
            )
        return None
    found = load_autoencoder(path, device)
    encoded_by = (latents or {}).get("sha256", found.sha256)
    if found.sha256 != encoded_by:
        raise UsageError(
            f"{path} is not the autoencoder of the latents that {run} was trained on: its hash is "
            f"{found.sha256[:16]}, not {str(encoded_by)[:16]}",
            f"Give the one they were encoded with, {named}, as --autoencoder DIR.",
        )
    return found


def decoder_receipt(decoder: Autoencoder | None) -> dict[str, str]:
    """Return what results say of the autoencoder that made images of samples; nothing without one."""
    return {} if decoder is None else {"autoencoder": str(decoder.path), "autoencoder_sha256": decoder.sha256}


def _places(named: str | None, run: Path) -> list[Path]:
    return [] if named is None else [Path(named), run / named]
