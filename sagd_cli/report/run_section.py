"""A run, laid out for the page of a report."""

from functools import partial
from typing import Any

from sagd_cli.evaluation.words import figure_rows, receipt_rows
from sagd_cli.figures.filters import filter_figure
from sagd_cli.figures.noise import measure_noise
from sagd_cli.figures.training import loss_figure, ratio_figure, shares_figure, spectra_figure
from sagd_cli.report.embed import Embedding
from sagd_cli.report.html import Picture, Section, Subsection, Table
from sagd_cli.report.omission_section import omission_section
from sagd_cli.report.portrait import Portrait

LARGEST_SHEET, LARGEST_FIGURE = 250_000, 120_000  # bytes


def run_section(portrait: Portrait, name: str, embed: Embedding) -> Section:
    """Lay out a run under `name`; what is not there is left out, and listed under `missing`."""
    parts: list[Subsection] = []
    for make in (_samples, _losses, _spectra, _filter):
        parts += portrait.attempt(make.__name__.strip("_"), partial(make, portrait, embed)) or []
    parts += [_result(*result) for result in portrait.results]
    for omission in portrait.omissions:
        part = portrait.attempt(f"the omission {omission.name}", partial(omission_section, omission, embed))
        parts += [] if part is None else [part]
    parts += [*_figures(portrait, embed), _configuration(portrait)]
    return Section(name, "run", _headline(portrait), _facts(portrait), parts, tuple(portrait.missing))


def _headline(portrait: Portrait) -> str:
    """The first figure that was measured, in words."""
    for _, result in portrait.results:
        sides = [result["receipt"][side] for side in ("generated", "reference")]
        rows = figure_rows(result)
        if rows:
            name, value, note = rows[0]
            counts = [side["count"] for side in sides]
            return f"{name} is {value}{note}: {counts[0]} images beside {counts[1]} of {sides[1]['path']}."
    return ""


def _facts(portrait: Portrait) -> list[tuple[str, str]]:
    config, last = portrait.config, portrait.records[-1] if portrait.records else {}
    steps = f"of {config.training.steps:,}"
    facts = [
        ("data", str(config.dataset.options.get("path", config.dataset.name))),
        ("filter", _filter_name(portrait)),
        ("network", config.backbone.name),
        ("schedule, prediction", f"{config.schedule}, {config.prediction}"),
        ("steps", f"{portrait.step:,} {steps}" if portrait.step is not None else f"none saved {steps}"),
        ("seed", str(config.training.seed)),
    ]
    for name, key in (("loss", "loss"), ("whitened loss", "whitened_loss")):
        if isinstance(last.get(key), int | float):
            facts.append((name, f"{last[key]:.4g}"))
    if isinstance(last.get("images"), int):
        facts.append(("images seen", f"{last['images']:,}"))
    return facts


def _filter_name(portrait: Portrait) -> str:
    document = portrait.filter_document or portrait.config.filter.document()
    options = ", ".join(
        f"{key} = {value}" for key, value in document["options"].items() if not isinstance(value, list)
    )
    omitted = f", without {document['omit']}" if document.get("omit") else ""
    return f"{document['type']}{f' ({options})' if options else ''}{omitted}"


def _samples(portrait: Portrait, embed: Embedding) -> list[Subsection]:
    if portrait.sheet is None:
        return []
    picture = Picture(
        embed.image(portrait.sheet, LARGEST_SHEET),
        "Samples of the seeds from 0 on, not chosen",
        pixelated=True,
    )
    return [Subsection("Samples", pictures=[picture])]


def _losses(portrait: Portrait, embed: Embedding) -> list[Subsection]:
    records = [record for record in portrait.records if isinstance(record.get("images"), int)]
    if not records:
        return []
    words = "Only the whitened loss compares filters: the plain one falls by itself as noise goes to empty frequencies."
    shown = [Picture(embed.figure(loss_figure(records)), "Loss over the images seen")]
    for key, label in (("band_losses", "whitened loss"), ("noise_bands", "share of the noise")):
        if any(record.get(key) for record in records):
            picture = embed.figure(shares_figure(records, key, label))
            shown.append(Picture(picture, f"{label[:1].upper()}{label[1:]} in each band of frequencies"))
    return [Subsection("Loss", [words], shown)]


def _spectra(portrait: Portrait, embed: Embedding) -> list[Subsection]:
    found = portrait.spectra
    if found is None:
        return []
    powers = {"data": found.data, "samples": found.samples, "noise": found.noise}
    known = {name: power for name, power in powers.items() if power is not None}
    text = f"Radially averaged power of the data, of {found.count} samples and of the noise"
    shown = [Picture(embed.figure(spectra_figure(found.rho, known)), text)]
    if found.data is not None:
        ratio = embed.figure(ratio_figure(found.rho, found.data, found.samples, found.samples_se))
        shown.append(Picture(ratio, "Samples over data, where 1 is right; shaded: two standard errors"))
    return [Subsection("Spectra", pictures=shown)]


def _filter(portrait: Portrait, embed: Embedding) -> list[Subsection]:
    shown = portrait.filter
    if shown is None or portrait.config.restoration is not None:
        return []
    draw, measured = measure_noise(shown)
    figure = filter_figure("", shown, draw, measured, portrait.initial_filter)
    shares = Table(("band", "share of the noise"), [(n, f"{s:.1%}") for n, s in shown.band_shares.items()])
    return [
        Subsection(
            "Filter",
            [_filter_name(portrait)],
            [Picture(embed.figure(figure), "Weight, profile and noise of the filter")],
            shares,
        )
    ]


def _result(name: str, result: dict[str, Any]) -> Subsection:
    rows = [(figure, value, note.strip(" ()")) for figure, value, note in figure_rows(result)]
    receipt = Table((), receipt_rows(result))
    return Subsection(
        f"Measured: {name}", table=Table(("figure", "value", ""), rows), folded=[("Receipt", receipt)]
    )


def _figures(portrait: Portrait, embed: Embedding) -> list[Subsection]:
    return [
        Subsection(f"Figure: {name}", pictures=[Picture(embed.image(pixels, LARGEST_FIGURE), name)])
        for name, pixels in portrait.figures
    ]


def _configuration(portrait: Portrait) -> Subsection:
    versions = [*portrait.versions.items()]
    versions += [(f"{p.kind} {p.name}", f"{p.distribution} {p.version}") for p in portrait.plugins]
    folded: list[tuple[str, Table | str]] = [("Configuration, defaults written out", portrait.yaml)]
    folded += [("Versions and plug-ins", Table((), versions))] if versions else []
    return Subsection(
        "Configuration", ["What trains it again, beside it:"], code=portrait.command, folded=folded
    )
