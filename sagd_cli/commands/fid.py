"""`sagd fid`: measure, compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sagd_cli.commands.common import (
    AutoencoderOption,
    DefaultGroup,
    DeviceOption,
    ForceOption,
    announced_device,
    common,
    refuse_given,
    refuse_read,
)
from sagd_cli.errors import GateError, UsageError
from sagd_cli.metrics.catalogue import METRICS, MOMENTS, distances
from sagd_cli.system.console import output

if TYPE_CHECKING:
    from sagd_cli.features.moments import Gaussian

DEFAULT_METRICS = ",".join(distances())
STATISTICS_METRICS = ",".join(name for name, metric in distances().items() if metric.needs == MOMENTS)

app = typer.Typer(
    cls=DefaultGroup, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.command(DefaultGroup.DEFAULT)
@common
def fid(
    generated: Annotated[
        str,
        typer.Argument(
            metavar="GENERATED", help="Folder, .npy, .npz, data set, or RUN: its samples, not written."
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="REFERENCE",
            help="Folder, .npy, .npz, data set, NAME:test; or statistics, an .npz with mu and sigma.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            help=f"Any of {','.join(METRICS)}; {DEFAULT_METRICS} by default ({STATISTICS_METRICS} for statistics).",
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            help="inception, digits-cnn, spectrum, pixels or a plug-in's; digits-cnn for small grey images.",
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Layer: 64, 192, 768 or 2048 of inception.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="Weights of the features, .pth or .safetensors."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "-n", "--count", min=1, help="Images of GENERATED: 2,000 of a run, else all, by default."
        ),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats",
            min=1,
            help="Blocks of --count samples (other seeds), or parts of a set: mean and deviation.",
        ),
    ] = 1,
    spectra: Annotated[
        bool, typer.Option("--spectra", help="Also compare the power of each band and frequency.")
    ] = False,
    sampler: Annotated[str | None, typer.Option("--sampler", help="Of a run: as in `sagd sample`.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, max=1000, help="Network evaluations of a run's sample.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="BASE", help="First seed of a run's samples.")
    ] = 0,
    autoencoder: AutoencoderOption = None,
    save_stats: Annotated[
        Path | None,
        typer.Option(
            "--save-stats", metavar="FILE.npz", help="Write GENERATED's mu and sigma, to be a REFERENCE."
        ),
    ] = None,
    max_fid: Annotated[
        float | None,
        typer.Option("--max-fid", help=f"Exit 3 when {METRICS['fid'].summary} is above this."),
    ] = None,
    max_kid: Annotated[
        float | None,
        typer.Option("--max-kid", help=f"Exit 3 when {METRICS['kid'].summary} is above this."),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE.json",
            help="Also write the JSON object; in RUN/evaluation `sagd report` finds it.",
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(
            "--summary-md", metavar="FILE", help="Append a summary in Markdown, for a CI page; - prints it."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Images at a time, which changes no figure.")
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep features of stored images for another time.")
    ] = True,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Fréchet and kernel distances between two sets of images, with a receipt.

    A figure is called FID only when its features are Inception's; --max-fid bounds the Fréchet distance in
    whatever features are chosen. `sagd fid compare A.json B.json` compares two results.

    Examples:

      sagd fid samples digits:test

      sagd fid runs/digits digits:test -n 1000 --repeats 5 --output runs/digits/evaluation/test.json

      sagd fid samples photos --features inception --weights inception.pth --max-fid 20

      sagd fid photos --save-stats photos.npz --weights inception.pth

      sagd fid runs/photos photos.npz --weights inception.pth --summary-md "$GITHUB_STEP_SUMMARY"

      torchrun --standalone --nproc-per-node=8 -m sagd_cli fid runs/photos photos.npz -n 50000 --weights inception.pth
    """
    from sagd_cli.evaluation.fidelity import evaluate, statistics_of
    from sagd_cli.evaluation.measures import Measures, chosen_metrics
    from sagd_cli.evaluation.sources import GeneratedOptions, open_reference, open_source
    from sagd_cli.system.distributed import joined_world, own_device
    from sagd_cli.system.files import refuse_existing

    if (reference is None) == (save_stats is None):
        raise UsageError("give a REFERENCE to compare with, or else --save-stats FILE.npz")
    if save_stats is not None:
        refuse_given(
            "--save-stats measures nothing",
            {
                "--metrics": metrics,
                "--repeats": repeats > 1,
                "--spectra": spectra,
                "--max-fid": max_fid,
                "--max-kid": max_kid,
                "--output": target,
                "--summary-md": summary,
            },
        )
    if output().json:
        refuse_given("--json has standard output for itself", {"--summary-md -": summary == Path("-")})
    outputs = {"--output": target, "--save-stats": save_stats, "--summary-md": summary}
    refuse_read(outputs, [generated, reference, weights])
    for path in (target, save_stats):
        if path is not None:
            refuse_existing(path, force)
    where = own_device(announced_device(device))
    with joined_world(where) as world:
        against = open_reference(reference) if reference is not None else None
        how = Measures(
            metrics=chosen_metrics(metrics, against),
            features=features,
            layer=layer,
            options={} if weights is None else {"weights": weights},
            repeats=repeats,
            spectra=spectra,
            batch_size=batch_size,
            cache=cache,
        )
        bounds = {"fid": max_fid, "kid": max_kid}
        gates = {name: bound for name, bound in bounds.items() if bound is not None}
        for name in gates:
            if name not in how.metrics:
                raise UsageError(f"--max-{name} needs {name} among --metrics")
        chosen = {"sampler": sampler, "steps": steps}
        options = GeneratedOptions(count, repeats, seed, chosen, autoencoder)
        images = open_source(generated, options, where, output())
        if against is None or save_stats is not None:
            assert save_stats is not None
            found = statistics_of(images, how, where, output(), world)
            if found is not None:
                _save_statistics(*found, save_stats, force)
            return
        result = evaluate(images, against, how, where, output(), world)
        if world.is_first:
            _show(result, target, summary)
            _check_gates(result, gates)


@app.command()
@common
def compare(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="A result of `sagd fid --json`.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Another.")],
) -> None:
    """Say whether two results may be compared, and by how many deviations they differ; exit 3 if they may not.

    They may be compared when features, layer, weights, counts and the reference's images are the same. Deviations come
    from --repeats.

    Example:

      sagd fid compare runs/white/evaluation/test.json runs/shaped/evaluation/test.json
    """
    from sagd_cli.evaluation.compare import compare_results
    from sagd_cli.evaluation.result import read_result
    from sagd_cli.evaluation.words import comparison_text

    found = compare_results(read_result(first), read_result(second))
    output().result(found, comparison_text(found))
    if not found["comparable"]:
        raise GateError(f"{first} and {second} may not be compared: {found['reasons'][0]}")


def _show(result: dict[str, Any], target: Path | None, summary: Path | None) -> None:
    """Write and print the result."""
    from sagd_cli.evaluation.words import fid_markdown, fid_text
    from sagd_cli.system.files import append_text, write_json

    to_stdout = summary == Path("-")
    try:
        if target is not None:
            write_json(target, result)
        if summary is not None and not to_stdout:
            append_text(summary, fid_markdown(result))
    finally:  # what was measured is shown, whether there was room for it or not
        output().result(result, fid_markdown(result) if to_stdout else fid_text(result))


def _check_gates(result: dict[str, Any], gates: dict[str, float]) -> None:
    """Raise GateError when a figure is above its bound; `gates` are the bounds by metric."""
    for name, bound in gates.items():
        figure = METRICS[name].figure
        value = result[figure.key]
        if not value <= bound:
            raise GateError(f"{figure.title(result['label'])} is {value:.4f}, above the bound {bound:g}")


def _save_statistics(gaussian: "Gaussian", receipt: dict[str, Any], path: Path, force: bool) -> None:
    from sagd_cli.evaluation.statistics import save_statistics

    save_statistics(path, gaussian, receipt, force)
    output().result({"output": str(path), "dimensions": gaussian.dimensions, "receipt": receipt}, str(path))
