"""`sagd fid`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sagd_cli.commands.common import DeviceOption, announced_device, common, single
from sagd_cli.console import output
from sagd_cli.errors import GateError, UsageError

app = single()


@app.command()
@common
def fid(
    generated: Annotated[str, typer.Argument(metavar="GENERATED", help="Folder, .npy, .npz or data set.")],
    reference: Annotated[
        str, typer.Argument(metavar="REFERENCE", help="Folder, .npy, .npz or data set, NAME:test.")
    ],
    metrics: Annotated[str, typer.Option("--metrics", help="Any of fid,kid,prc,isc.")] = "fid,kid",
    features: Annotated[
        str | None,
        typer.Option("--features", help="Features; digits-cnn for small grey images, else inception."),
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Layer: 64, 192, 768 or 2048 of inception.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="Weights of the features, .pth or .safetensors."),
    ] = None,
    max_fid: Annotated[
        float | None, typer.Option("--max-fid", help="Exit 3 when the Fréchet distance is above this.")
    ] = None,
    max_kid: Annotated[
        float | None, typer.Option("--max-kid", help="Exit 3 when the KID is above this.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Fréchet and kernel distances between two sets of images, with a receipt.

    A figure is called FID only when its features are Inception's; --max-fid bounds the Fréchet distance in
    whatever features are chosen.

    Examples:

      sagd fid samples digits:test

      sagd fid samples photos --features inception --weights inception.pth --max-fid 20
    """
    wanted = tuple(dict.fromkeys(name.strip() for name in metrics.split(",") if name.strip()))
    for bound, metric in ((max_fid, "fid"), (max_kid, "kid")):
        if bound is not None and metric not in wanted:
            raise UsageError(f"--max-{metric} needs {metric} among --metrics")
    if not wanted:
        raise UsageError("--metrics names no metric", "Choose any of fid,kid,prc,isc.")
    from sagd_cli.arguments import parse_dataset
    from sagd_cli.datasets import load_pixels
    from sagd_cli.evaluation.fidelity import ImageSource, default_features, evaluate

    out = output()
    sides = [ImageSource(text, load_pixels(parse_dataset(text)).images) for text in (generated, reference)]
    chosen = features or default_features(sides[0].images)
    options: dict[str, Any] = {} if weights is None else {"weights": weights}
    where = announced_device(device)
    result = evaluate(sides[0], sides[1], wanted, chosen, options, layer, where, out)
    out.result(result, _text(result))
    for bound, key, name in ((max_fid, "fd", result["label"]), (max_kid, "kid", "KID")):
        if bound is not None and not result[key] <= bound:
            raise GateError(f"{name} is {result[key]:.4f}, above the bound {bound:g}")


def _text(result: dict[str, Any]) -> str:
    receipt = result["receipt"]
    ours = "" if receipt["features"] == "inception" else f" ({receipt['features']})"
    names = {
        "fd": result["label"],
        "kid": f"KID{ours}",
        "precision": "precision",
        "recall": "recall",
        "isc": f"IS{ours}",
    }
    lines = []
    for key, name in names.items():
        if key in result:
            deviation = f" ± {result[key + '_std']:.4g}" if key + "_std" in result else ""
            lines.append(f"{name:<22} {result[key]:.5g}{deviation}")
    lines.append(f"{'features':<22} {receipt['features']} layer {receipt['layer']}")
    for side in ("generated", "reference"):
        item = receipt[side]
        lines.append(f"{side:<22} {item['count']} images  sha256 {item['sha256'][:12]}  {item['path']}")
    lines.append(f"{'weights':<22} sha256 {receipt['weights_sha256'][:12]}")
    return "\n".join(lines)
