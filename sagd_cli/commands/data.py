"""`sagd data`: list, prepare, encode, info."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sagd_cli.commands.common import DeviceOption, ForceOption, announced_device, common, group
from sagd_cli.plugin.registry import registry
from sagd_cli.system.console import output

app = group("List, prepare and inspect data sets.")

DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="Data set NAME[:test], folder, .npy, .npz, .zip, .tar, .parquet; with [,k=v]."
    ),
]
SizeOption = Annotated[
    int | None,
    typer.Option("--size", min=2, help="Crop the images of files to squares and resize them to N x N."),
]
ModeOption = Annotated[
    str | None, typer.Option("--mode", metavar="rgb|grey", help="Make the images of files RGB, or grey.")
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Fetch missing files of a data set.")]


@app.command("list")
@common
def list_() -> None:
    """List the data sets."""
    rows = []
    for name in registry().names("dataset"):
        entry = registry().entry("dataset", name)
        rows.append({"name": name, "summary": entry.summary, "distribution": entry.provider.distribution})
    width = max(len(row["name"]) for row in rows)
    output().result(
        {"datasets": rows}, "\n".join(f"{row['name']:<{width}}  {row['summary']}" for row in rows)
    )


@app.command()
@common
def prepare(
    data: DataArgument,
    target: Annotated[
        Path,
        typer.Option(
            "--output",
            metavar="FILE.npy|FILE.npz|DIR",
            help="A .npy (N, C, H, W), labels beside it, an .npz with both, or a folder of PNG (TIFF for floats).",
        ),
    ],
    size: SizeOption = None,
    mode: ModeOption = None,
    pixels: Annotated[
        bool,
        typer.Option("--pixels", help="Round and clip float data on the [-1, 1] range to 8-bit images."),
    ] = False,
    download: DownloadOption = False,
    force: ForceOption = False,
) -> None:
    """Turn a data set or a folder into one .npy or .npz file, or into a folder of PNG files (TIFF for floats).

    The file is written image by image, so the folder may be larger than memory. Labels of FILE.npy are in
    FILE.labels.npy, and the names of classes in FILE.json. The same command goes on with a .npy where one was stopped.
    Images that cannot be read are named in the end, when the others are written.

    Examples:

      sagd data prepare photos --size 64 --output photos64.npy

      sagd data prepare imagenet/train --size 64 --mode rgb --output imagenet64.npy

      sagd data prepare digits:test --output digits-test

      sagd data prepare damaged.npy --pixels --output damaged8      (of `sagd corrupt`, as PNG)
    """
    from sagd_cli.config.arguments import as_pictures, parse_dataset
    from sagd_cli.data.ranges import ToBytes
    from sagd_cli.datasets.loading import fetch
    from sagd_cli.datasets.writing import write_dataset

    config = as_pictures(parse_dataset(data), size=size, mode=mode)
    if download:
        fetch(config)
    change = ToBytes() if pixels else None
    count, *shape = write_dataset(config, target, force, output(), change)
    result: dict[str, Any] = {"output": str(target), "count": count, "shape": shape}
    if change is not None:
        result["clipped"] = change.clipped
        output().note(f"{change.clipped:,} values were beyond black or white and were clipped")
    output().result(result, str(target))


@app.command("encode")
@common
def encode_(
    data: DataArgument,
    autoencoder: Annotated[
        Path,
        typer.Option("--autoencoder", metavar="DIR", help="Local folder of an autoencoder of diffusers."),
    ],
    target: Annotated[
        Path,
        typer.Option("--output", metavar="FILE.npy", help="Latents, float16 (N, c, h, w); labels beside it."),
    ],
    size: SizeOption = None,
    mode: ModeOption = None,
    flips: Annotated[
        bool,
        typer.Option("--flips", help="Append the mirrored images (2N): latents cannot be mirrored later."),
    ] = False,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Encode images to latents with an autoencoder, for `sagd train`; `sagd sample` decodes with the same one.

    FILE.json names the autoencoder, with its hash, scale and shift. The same command goes on where one was stopped.
    `torchrun` deals the images to several processes.

    Example:

      sagd data encode imagenet256.npy --autoencoder sd-vae --output latents.npy
    """
    from sagd_cli.config.arguments import as_pictures, parse_dataset
    from sagd_cli.latents.autoencoder import load_autoencoder
    from sagd_cli.latents.encoding import LatentFile
    from sagd_cli.system.distributed import joined_world, own_device

    config = as_pictures(parse_dataset(data), size=size, mode=mode)
    chosen = own_device(announced_device(device))
    with joined_world(chosen) as world:
        # An absolute path is found again from every folder of this machine.
        file = LatentFile(config, load_autoencoder(autoencoder.resolve(), chosen), target, flips)
        facts = file.write(force, world)
    if facts is not None:
        count, *shape = file.shape
        result = {"output": str(target), "count": count, "shape": shape, "latents": facts}
        output().result(result, str(target))


@app.command()
@common
def info(data: DataArgument, download: DownloadOption = False) -> None:
    """Print count, shape, range and hash of a data set.

    Example:

      sagd data info digits:test --json
    """
    from sagd_cli.config.arguments import parse_dataset
    from sagd_cli.datasets.loading import class_names, fetch, hash_images, load_images, mean_and_std

    config = parse_dataset(data)
    if download:
        fetch(config)
    loaded = load_images(config)
    images = loaded.images
    result: dict[str, Any] = {"path": data, "count": len(images), "shape": list(images.shape[1:])}
    result["sha256"], result["dtype"] = hash_images(images), str(images.dtype)
    result["mean"], result["std"] = mean_and_std(images)
    result["classes"] = None if loaded.labels is None else len(class_names(loaded))
    output().result(result, "\n".join(f"{key:<8} {value}" for key, value in result.items()))
