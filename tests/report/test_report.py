"""The page of a report: whole, small, honest about what is missing, and deaf to what names try to say."""

import base64
import io
import json
import shlex
import shutil
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from support.odd_documents import altered

from sagd_cli.errors import DataError
from sagd_cli.figures.training import POINTS, curve, loss_figure, ratio_figure
from sagd_cli.report.embed import Embedding
from sagd_cli.report.html import Section, Subsection, Table, render_page
from sagd_cli.report.sweep_section import sweep_section
from sagd_cli.sweep.summary import read_sweep, runs_to_show

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}&amp;\u202e\ud800\x00\x1b[31m"
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """The elements, attributes, ids and text of a page; elements must nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open, self.sources, self.headings = Counter(), [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements[(tag, tuple(sorted(name for name, _ in attributes)))] += 1
        self.sources += [
            value for name, value in attributes if name in ("src", "href", "action", "data", "srcset")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


@pytest.fixture(scope="module")
def measured_run(tiny_run, tmp_path_factory):
    """A run with a result, an omission with its images, and a figure."""
    from contextlib import suppress

    from sagd_cli.__main__ import main

    def sagd(*arguments):
        with suppress(SystemExit):
            main([str(argument) for argument in arguments])

    run = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(tiny_run, run)
    sagd(
        "fid",
        run,
        "digits:test",
        "-n",
        20,
        "--steps",
        1,
        "--spectra",
        "--output",
        run / "evaluation" / "test.json",
        "-q",
    )
    folder = run.parent
    (folder / "clean").mkdir()
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(60, 200, (16, 16), dtype=np.uint8)).save(
            folder / "clean" / f"{i}.png"
        )
    sagd(
        "corrupt", folder / "clean", "--band", "high", "--strength", 0.3, "--output", folder / "damaged", "-q"
    )
    sagd(
        "omit",
        folder / "damaged",
        "--band",
        "high",
        "--estimate",
        "notch",
        "--truth",
        folder / "clean",
        "--output",
        folder / "restored",
        "-q",
    )
    record = {
        "band": "high",
        "method": "notch",
        "strength": None,
        "files": [
            {
                "input": str(folder / "damaged" / f"{i}.tiff"),
                "output": str(next((folder / "restored").glob(f"{i}.*"))),
                "psnr_before": 10.0,
                "psnr": 20.5,
                "parts": [
                    {
                        **{"part": "notch:0.2,0.15,0.01", "kind": "tone", "direction": 36.9, "period": 4.0},
                        **{"strength_before": 0.5, "strength_after": 0.01},
                        **{"grey_levels_before": 7.07, "grey_levels_after": 0.14},
                    }
                ],
            }
            for i in range(3)
        ],
        "psnr_before_mean": 10.0,
        "psnr_mean": 20.5,
    }
    (run / "evaluation" / "omission.json").write_text(json.dumps(record))
    (run / "figures").mkdir()
    Image.fromarray(np.full((50, 80, 3), 77, np.uint8)).save(run / "figures" / "mine.png")
    return run


def report(sagd, *arguments):
    found = sagd("report", *arguments, "-n", 8, "--device", "cpu", "--json")
    assert found.code == 0, found.err
    return found.json


def test_a_page_holds_all_there_is_and_nothing_from_elsewhere(sagd, measured_run, tmp_path):
    found = report(sagd, measured_run, "--output", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert found["missing"] == [] and found["bytes"] == len(text.encode()) < 2_000_000
    wanted = [
        "Samples",
        "Loss",
        "Spectra",
        "Filter",
        "Measured: test",
        "Omission: omission",
        "Figure: mine",
        "Configuration",
    ]
    assert [heading for heading in page.headings if heading in wanted] == wanted
    assert all(source.startswith(("data:image/", "#")) for source in page.sources)
    assert not {"script", "link", "iframe", "object", "form", "base"} & {tag for tag, _ in page.elements}
    assert "default-src 'none'" in text and "url(" not in text and "@import" not in text
    words = " ".join(page.text)
    result = json.loads((measured_run / "evaluation" / "test.json").read_text())
    assert f"{result['fd']:.5g}" in words and result["receipt"]["reference"]["sha256"][:12] in words
    assert f"sagd train --config {measured_run / 'config.yaml'} --output {measured_run}-again" in words
    assert "ema_half_life_images" in words and "torch" in words and "20.5 dB" in words
    assert "7.07 before, 0.14 after" in words
    images = [
        base64.b64decode(source.partition(",")[2]) for source in page.sources if source.startswith("data:")
    ]
    assert len(images) >= 12 and all(Image.open(io.BytesIO(data)).size[0] >= 8 for data in images)


def test_an_existing_page_is_kept_and_several_targets_need_a_name(sagd, tiny_run, tmp_path):
    page = tmp_path / "r.html"
    page.write_text("mine")
    assert sagd("report", tiny_run, "--output", page).code == 2 and page.read_text() == "mine"
    report(sagd, tiny_run, tiny_run, "--output", page, "--force")
    assert Page(page.read_text()).headings.count("tiny") == 2
    assert "--output" in sagd("report", tiny_run, tiny_run).err
    assert sagd("report", tmp_path, "--output", tmp_path / "x.html").code == 2
    assert sagd("report", tiny_run, "--output", tmp_path / "x.pdf").code == 2


def test_what_is_missing_is_said_and_the_rest_is_shown(sagd, measured_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(measured_run, run)
    for file in run.glob("checkpoints/*/ema.safetensors"):
        file.write_bytes(b"torn")
    (run / "evaluation" / "torn.json").write_text("{")
    (run / "evaluation" / "other.json").write_text('{"a": 1}')
    (run / "evaluation" / "half.json").write_text('{"label": "x", "receipt": {}}')
    (run / "evaluation" / "odd.json").write_text(
        '{"band": "high", "files": [{"input": 3, "psnr": "x"}], "psnr_mean": 1}'
    )
    (run / "figures" / "bad.png").write_bytes(b"no picture")
    found = report(sagd, run, "--output", tmp_path / "r.html")
    said = "\n".join(found["missing"])
    for words in (
        "no sound checkpoint",
        "torn.json",
        "other.json in evaluation: it is no result",
        "bad.png",
        "half.json is no result of sagd fid: receipt",
        "odd.json in evaluation: its images are not where they were",
        "the omission odd",
    ):
        assert words in said, said
    page = Page((tmp_path / "r.html").read_text())
    assert (
        "Loss" in page.headings and "Omission: omission" in page.headings and "Samples" not in page.headings
    )
    (run / "metrics.jsonl").unlink()
    again = report(sagd, run, "--output", tmp_path / "r.html", "--force")
    assert (
        "Loss" not in Page((tmp_path / "r.html").read_text()).headings
        and again["missing"] == found["missing"]
    )


def test_a_run_that_restores_draws_no_samples(sagd, tmp_path):
    tiny = ["--set", "backbone.options.channels=[8,8]", "--batch-size", 8, "--steps", 2]
    assert sagd("train", "--restore", "high", *tiny, "--output", tmp_path / "run").code == 0
    found = report(sagd, tmp_path / "run", "--output", tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text())
    assert found["missing"] == [] and "Loss" in page.headings and not {"Samples", "Filter"} & {*page.headings}


def test_names_cannot_speak_html():
    def page(text):
        parts = [
            Subsection(
                text,
                [text],
                table=Table((text,), [(text, text)]),
                code=text,
                folded=[(text, text), (text, Table((), [(text,)]))],
            )
        ]
        section = Section(text, text, text, [(text, text)], parts, (text,))
        return render_page(text, [section, section], text)

    harmless, hostile = Page(page("name")), Page(page(HOSTILE))
    assert harmless.elements == hostile.elements
    shown = "".join(hostile.text)
    assert "<script>alert(1)</script>" in shown and "{{7*7}}" in shown
    assert not {"\u202e", "\ud800", "\x00", "\x1b"} & {*page(HOSTILE)}
    page(HOSTILE).encode()  # no lone surrogate is left


def test_a_hostile_run_is_shown_as_it_is_called(sagd, measured_run, tmp_path):
    run = tmp_path / "<script>alert(1)<" / "b onload=x"
    run.parent.mkdir()
    shutil.copytree(measured_run, run)
    result = json.loads((run / "evaluation" / "test.json").read_text())
    result["receipt"]["reference"]["path"] = result["receipt"]["features"] = HOSTILE
    (run / "evaluation" / "<b>.json").write_text(json.dumps(result))
    (run / "figures" / "mine.png").rename(run / "figures" / "<svg onload=1>.png")
    report(sagd, measured_run, "--output", tmp_path / "plain.html")
    report(sagd, run, "--output", tmp_path / "hostile.html")
    plain, hostile = (Page((tmp_path / name).read_text()) for name in ("plain.html", "hostile.html"))
    assert hostile.elements.keys() == plain.elements.keys()
    command = next(text for text in hostile.text if text.startswith("sagd train"))
    assert shlex.split(command)[3:] == [str(run / "config.yaml"), "--output", f"{run}-again"]


SWEEP = {
    "output": "s",
    "metric": "fd",
    "label": "fd-digits-cnn@12",
    "keys": ["filter.options.alpha"],
    "seeds": [0, 1],
    "cells": [
        {
            "name": name,
            "values": {"filter.options.alpha": alpha},
            "baseline": alpha == 0,
            "mean": mean,
            "deviation": 0.25,
            "count": 2,
            "runs": [
                {
                    "seed": 0,
                    "state": "done",
                    "value": mean - 0.2,
                    "images": 64,
                    "run": f"cells/{name}/seed-0",
                    "error": None,
                },
                {
                    "seed": 1,
                    "state": "failed",
                    "value": None,
                    "images": None,
                    "run": f"cells/{name}/seed-1",
                    "error": "<b>died",
                },
            ],
        }
        for name, alpha, mean in (("alpha=-0.1", -0.1, 1.75), ("alpha=0", 0, 2.5))
    ],
    "best": "alpha=-0.1",
    "baseline": "alpha=0",
    "test": {"text": "the best cell, alpha=-0.1, differs", "differs": True},
    "failed": ["alpha=0/seed-1"],
    "config": {"a": 1},
    "evaluation": {"metric": "fd"},
    "versions": {"sagd": "0"},
}


@pytest.mark.slow
def test_a_sweep_is_its_table_its_best_run_and_white_noise(sagd, tiny_run, tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps(SWEEP))
    for cell in SWEEP["cells"]:
        shutil.copytree(tiny_run, folder / cell["runs"][0]["run"])
    report(sagd, folder)
    page = Page((folder / "report.html").read_text())
    assert [h for h in page.headings if "seed 0" in h] == ["alpha=-0.1, seed 0", "alpha=0, seed 0"]
    words = " ".join(page.text)
    assert "The best cell, alpha=-0.1, differs." in words and "1.75 ± 0.25" in words and "<b>died" in words
    (folder / "sweep.json").write_text("[]")
    assert sagd("report", folder, "--force").code == 1


@pytest.mark.parametrize("value", [None, -1, "x", [], {"x": 1}], ids=repr)
def test_a_table_that_is_read_can_be_laid_out(tmp_path, monkeypatch, value):
    """Whatever stands anywhere in the file."""
    monkeypatch.setattr(Embedding, "figure", lambda self, figure: "data:")
    laid_out = 0
    for odd in altered(SWEEP, value):
        (tmp_path / "sweep.json").write_text(json.dumps(odd))
        try:
            summary = read_sweep(tmp_path)
        except DataError:
            continue
        laid_out += 1
        runs_to_show(tmp_path, summary)
        assert sweep_section(tmp_path, summary, Embedding()).parts
    assert 0 < laid_out < 60


@pytest.mark.slow
def test_the_worst_page_is_below_two_megabytes(sagd, tiny_run, tmp_path):
    """Samples of noise in colour, which nothing compresses, and large figures of noise."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "figures").mkdir()
    random = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(random.integers(0, 256, (800, 1000, 3), dtype=np.uint8)).save(
            run / "figures" / f"{i}.png"
        )
    assert report(sagd, run, "--output", tmp_path / "r.html")["bytes"] < 2_000_000
    assert report(sagd, *[run] * 3, "--output", tmp_path / "three.html")["bytes"] < 2_000_000
    assert len(Page((tmp_path / "three.html").read_text()).sources) >= 3 * 12
    sheet = random.integers(0, 256, (3, 700, 700), dtype=np.uint8)
    assert len(Embedding().image(sheet, 250_000)) < 350_000


def test_small_images_are_kept_to_the_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 7), dtype=np.uint8)
    data = base64.b64decode(Embedding().image(pixels, 30_000).partition(",")[2])
    assert np.array_equal(np.moveaxis(np.asarray(Image.open(io.BytesIO(data))), 2, 0), pixels)


def test_curves_are_the_records_and_of_many_their_means():
    records = [{"images": 8 * k, "loss": 1 / k, "band_losses": {"low": k}} for k in range(1, 41)]
    images, values = curve(records, "loss")
    assert images.tolist() == [r["images"] for r in records] and values.tolist() == [
        r["loss"] for r in records
    ]
    assert curve(records, "band_losses", "low")[1].tolist() == [*range(1, 41)]
    assert curve(records, "band_losses", "none")[1].size == 0 and curve([], "loss")[0].size == 0
    many = [{"images": k, "loss": float(k % 2)} for k in range(100_000)]
    images, values = curve(many, "loss")
    assert len(values) == POINTS and np.allclose(values, 0.5)
    drawn = {line.get_label(): line.get_ydata().tolist() for line in loss_figure(records).axes[0].lines}
    assert drawn["plain"] == [r["loss"] for r in records]


def test_the_ratio_is_that_of_samples_and_data():
    rho, data, samples = np.array([0, 0.5, 1]), np.array([2.0, 0.0, 4.0]), np.array([1.0, 1.0, 6.0])
    line = ratio_figure(rho, data, samples, 0.1 * data).axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), [0.5, np.nan, 1.5])
