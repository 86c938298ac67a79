"""`sagd filter show`, `fit`, `compare` and `design` as one types them, and the identity of filter files."""

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.expectations import refused

from sagd_cli.config.arguments import parse_filter
from sagd_cli.config.layers import resolve
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.system.console import Output

SHOWN = ["type", "options", "normalize", "shape", "power", "rank", "size", "condition", "profile", "bands"]
SMALL = ["--set", "backbone.options.channels=[8,8]", "--batch-size", 4]


@pytest.fixture(scope="module")
def learned_run(tmp_path_factory, tiny_settings):
    """A run of 8x8 digits whose filter two steps of training have moved."""
    import torch

    from sagd_cli.training.train import run_training

    path = tmp_path_factory.mktemp("learned") / "run"
    moved = {"filter.type": "learned", "training.images": 16, "training.learning_rate": 0.05}
    run_training(resolve({**tiny_settings, **moved}), path, torch.device("cpu"), Output(quiet=True))
    return path


@pytest.fixture(scope="module")
def strong(tmp_path_factory):
    """Smooth fields of standard deviation 10: at low frequencies they outshine the noise of t = 1."""
    grid = FrequencyGrid((16, 16))
    weight = np.maximum(grid.radius, 1 / 16) ** -1.5
    white = np.random.default_rng(0).standard_normal((40, 1, 16, 16))
    fields = np.fft.irfft2(np.fft.rfft2(white) * weight, s=(16, 16))
    path = tmp_path_factory.mktemp("strong") / "strong.npy"
    np.save(path, fields / fields.std())
    return path


# Showing


def test_the_json_of_show_has_the_keys_of_the_contract(sagd):
    shown = sagd("filter", "show", "bandpass:low=0.25,high=0.5", "--size", "16x12", "--json").json
    assert set(SHOWN) <= set(shown)
    assert shown["shape"] == [16, 12] and shown["size"] == 192 and shown["power"] == pytest.approx(1)
    assert shown["bands"] == {"low": 0.0, "mid": pytest.approx(1), "high": 0.0}
    rho = FrequencyGrid((16, 12))
    assert shown["rank"] == rho.total((rho.rho >= 0.25 - 1e-9) & (rho.rho < 0.5 - 1e-9))
    assert all(0 <= r <= 1 and w >= 0 for r, w in shown["profile"])
    assert "snr" not in shown and "initial_profile" not in shown


@pytest.mark.parametrize("way", ["file", "stdin", "type"])
def test_a_filter_is_shown_the_same_from_a_file_from_stdin_and_by_its_type(sagd, tmp_path, monkeypatch, way):
    text = sagd("filter", "design", "--type", "powerlaw", "--alpha", "-0.5").out
    path = tmp_path / "filter.yaml"
    path.write_text(text)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    subject = {"file": path, "stdin": "-", "type": "powerlaw:alpha=-0.5"}[way]
    shown = sagd("filter", "show", subject, "--size", "8", "--json").json
    assert shown["options"] == {"alpha": -0.5, "delta": 0.01} and shown["shape"] == [8]
    # Normalised in power, w = (r + 0.01)^-0.5 over r = 0, 1/8, .., 1/2.
    radius = np.abs(np.fft.fftfreq(8))
    weight = (radius + 0.01) ** -0.5
    weight /= np.sqrt(np.mean(weight**2))
    expected = [[2 * r, weight[radius == r][0]] for r in np.unique(radius)]
    np.testing.assert_allclose(shown["profile"], expected, rtol=1e-9)


def test_a_run_is_shown_at_its_own_size(sagd, tiny_run):
    shown = sagd("filter", "show", tiny_run, "--json").json
    assert shown["shape"] == [8, 8] and shown["type"] == "powerlaw" and "initial_profile" not in shown
    assert shown["sha256"] == sagd("filter", "show", "powerlaw", "--json").json["sha256"]
    assert sagd("filter", "show", tiny_run, "--size", "12x10", "--json").json["shape"] == [12, 10]


def test_a_learned_run_shows_the_filter_before_and_after(sagd, learned_run, tmp_path):
    target = tmp_path / "learned.yaml"
    shown = sagd("filter", "show", learned_run, "--output", target, "--json").json
    before, after = np.array(shown["initial_profile"]), np.array(shown["profile"])
    np.testing.assert_allclose(before[:, 1], 1, rtol=1e-9)
    assert np.array_equal(before[:, 0], after[:, 0])
    assert np.abs(after[:, 1] - 1).max() > 1e-3
    again = sagd("filter", "show", target, "--size", "8x8", "--json").json
    assert again["profile"] == shown["profile"] and again["sha256"] == shown["sha256"]
    assert "initial_profile" not in again
    text = sagd("filter", "show", learned_run).out
    assert text.index("w over rho") < text.index("w before training") < text.index("noise power")


@pytest.mark.slow
def test_a_run_is_shown_without_torch(learned_run):
    code = (
        f"import sys\nfrom sagd_cli.__main__ import main\n"
        f"try: main(['filter', 'show', {str(learned_run)!r}, '--data', 'digits'])\nfinally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.splitlines()[-1].split()


def test_signal_to_noise_is_shown_for_data(sagd, strong):
    shown = sagd("filter", "show", "white", "--data", strong, "--json").json
    assert shown["shape"] == [16, 16]
    assert shown["data"]["images"] == 40 and shown["data"]["data"] == str(strong)
    snr = shown["snr"]
    assert snr["t"] == [0.0, 0.5, 1.0] and snr["schedule"] == "linear"
    assert set(snr["bands"]) == {"low", "mid", "high", "all"}
    # White noise of variance 1 on fields of variance 1: over all frequencies, the SNR is the schedule's.
    assert snr["bands"]["all"][2] == pytest.approx(4.036e-5, rel=0.02)
    assert snr["bands"]["all"][0] == pytest.approx(9999, rel=0.02)
    for low, mid, high in zip(*(snr["bands"][name] for name in ("low", "mid", "high")), strict=True):
        assert low > mid > high
    cosine = sagd("filter", "show", "white", "--data", strong, "--schedule", "cosine", "--json").json["snr"]
    assert cosine["bands"]["all"][2] == pytest.approx(2.43e-9, rel=0.03)


def test_the_size_of_the_data_rules(sagd):
    refused(
        sagd("filter", "show", "white", "--data", "digits", "--size", "9x8"),
        2,
        "the images of digits have the shape 8x8, not 9x8. Leave out --size.",
    )
    refused(sagd("filter", "show", "white", "--data", "digits", "--size", "8"), 2, "not 8. Leave out --size.")
    assert sagd("filter", "show", "white", "--data", "digits", "--size", "8x8").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("command", ["show", "compare"])
def test_figures_are_written_once(sagd, tmp_path, command, suffix):
    plot = tmp_path / f"figure.{suffix}"
    arguments = ["filter", command, "bandpass", "--size", "16x16", "--plot", plot]
    assert sagd(*arguments, "--json").json["plot"] == str(plot)
    first = plot.read_bytes()
    if suffix == "png":
        with Image.open(plot) as figure:
            assert figure.width > 600 and figure.height > 300
    else:
        assert b"<svg" in first[:600]
    refused(sagd(*arguments), 2, f"{plot} exists")
    assert sagd(*arguments, "--force").code == 0
    assert plot.read_bytes() == first
    assert list(tmp_path.iterdir()) == [plot]


@pytest.mark.parametrize(
    "command", [["filter", "show", "white"], ["filter", "compare", "white"], ["spectrum"]]
)
def test_a_wrong_figure_name_is_said_before_the_data_are_read(sagd, tmp_path, command):
    flag = [] if command == ["spectrum"] else ["--data"]
    result = sagd(*command, *flag, "no-such.npy", "--plot", tmp_path / "figure.jpg")
    refused(result, 2, "figure.jpg is not a figure's name")


def test_the_written_filter_is_the_same_filter(sagd, tmp_path, tiny_run):
    for i, subject in enumerate(["notch:centers=[[0.1,0.2]],radius=0.02", "highpass:cutoff=0.3", tiny_run]):
        path = tmp_path / f"{i}.yaml"
        shown = sagd("filter", "show", subject, "--output", path, "--json").json
        assert shown["output"] == str(path)
        again = sagd("filter", "show", path, "--json").json
        assert again["sha256"] == shown["sha256"] and again["options"] == shown["options"]
    refused(sagd("filter", "show", "white", "--output", path), 2, f"{path} exists")
    assert sagd("filter", "show", "white", "--output", path, "--force").code == 0
    assert sagd("filter", "show", path, "--json").json["type"] == "white"


def test_a_filter_is_extracted_through_a_pipe(sagd, learned_run):
    printed = sagd("filter", "show", learned_run, "--output", "-")
    assert printed.out.startswith("type: learned\n") and printed.err == ""
    sagd_command = f"{sys.executable} -m sagd_cli"
    script = f"{sagd_command} filter show {learned_run} --output - | {sagd_command} filter show - --json"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["sha256"] == sagd("filter", "show", learned_run, "--json").json["sha256"]


def test_existing_outputs_are_refused_before_the_data_are_read(sagd, tmp_path):
    taken = tmp_path / "taken.yaml"
    taken.write_text("mine")
    for command in (["show", "white", "--data"], ["fit"], ["design", "--type", "white", "--data"]):
        refused(sagd("filter", *command, "no-such.npy", "--output", taken), 2, f"{taken} exists")
    assert taken.read_text() == "mine"


def test_a_folder_that_is_no_run_is_refused(sagd, tmp_path):
    for command in ("show", "compare"):
        refused(sagd("filter", command, tmp_path), 2, "is not a run: it has no config.yaml")
    refused(sagd("filter", "show", "bandpas"), 2, "unknown filter 'bandpas'. Did you mean bandpass")


# Comparing


def test_compare_puts_each_filter_in_a_row(sagd, tmp_path, strong):
    path = tmp_path / "high.yaml"
    sagd("filter", "design", "--type", "highpass", "--cutoff", "0.5", "--output", path)
    names = ["white", "powerlaw:alpha=-1", str(path)]
    compared = sagd("filter", "compare", *names, "--size", "16x16", "--json").json
    assert compared["shape"] == [16, 16]
    assert [row["name"] for row in compared["filters"]] == names
    for row, name in zip(compared["filters"], names, strict=True):
        assert row == {"name": name, **sagd("filter", "show", name, "--size", "16x16", "--json").json}
    on_data = sagd("filter", "compare", *names, "--data", strong, "--plot", tmp_path / "c.png", "--json").json
    assert (tmp_path / "c.png").stat().st_size > 10_000
    for row, before in zip(on_data["filters"], compared["filters"], strict=True):
        assert row["bands"] == before["bands"]
        assert row == {
            "name": row["name"],
            **sagd("filter", "show", row["name"], "--data", strong, "--json").json,
        }
    assert on_data["filters"][2]["snr"]["bands"]["low"] == [None, None, None]
    text = sagd("filter", "compare", *names, "--data", strong).out
    lines = text.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(tuple(names))] == names
    assert "no noise" in text and "…" not in text


@pytest.mark.slow
def test_compare_loses_no_figure_in_a_narrow_pipe():
    """80 columns are what a pipe has: figures may wrap, they are not cut."""
    command = ["filter", "compare", "white", "powerlaw", "--data", "digits"]
    done = subprocess.run(
        [sys.executable, "-m", "sagd_cli", *command], capture_output=True, text=True, check=True
    )
    assert "…" not in done.stdout
    assert len(re.findall(r"\d\.?\d*e-0\d", done.stdout)) == 6


def test_runs_of_different_shapes_need_a_size(sagd, tiny_run, tmp_path):
    other = tmp_path / "twelve"
    data = tmp_path / "twelve.npy"
    np.save(data, np.random.default_rng(0).integers(0, 256, (20, 1, 12, 12), dtype=np.uint8))
    assert sagd("train", "--dataset", data, "--steps", 1, *SMALL, "--output", other).code == 0
    both = ["filter", "compare", tiny_run, other]
    refused(sagd(*both), 2, "different shapes. Choose one with --size.")
    assert sagd(*both, "--size", "12x12", "--json").json["shape"] == [12, 12]
    assert sagd("filter", "compare", other, "white", "--json").json["shape"] == [12, 12]


def test_the_noise_of_a_learned_run_is_compared_as_it_is_now(sagd, learned_run):
    rows = sagd("filter", "compare", "learned", learned_run, "--json").json["filters"]
    assert rows[1]["sha256"] == sagd("filter", "show", learned_run, "--json").json["sha256"]
    assert rows[0]["condition"] == pytest.approx(1) and rows[1]["condition"] > 1.001


# Fitting


def test_fit_writes_a_filter_file(sagd, tmp_path):
    path = tmp_path / "matched.yaml"
    written = sagd("filter", "fit", "digits", "-o", "kappa=0.5", "--output", path, "--json").json
    assert written["output"] == str(path) and written["options"]["kappa"] == 0.5
    assert written["source"]["data"] == "digits" and written["source"]["images"] == 1500
    piped = sagd("filter", "fit", "digits", "-o", "kappa=0.5")
    assert piped.out == path.read_text()
    assert parse_filter(str(path)).sha256() == written["sha256"]
    assert sagd("config", "validate", path, "--json").json["sha256"] == written["sha256"]


def test_fit_of_a_power_law_says_beta_and_its_error(sagd):
    result = sagd("filter", "fit", "digits", "--method", "powerlaw", "--json")
    fitted = result.json
    low, high = fitted["alpha_interval"]
    assert fitted["options"]["alpha"] == pytest.approx(-fitted["beta"] / 2, rel=1e-5)
    assert low < fitted["options"]["alpha"] < high
    assert fitted["bounded"] is False and fitted["output"] is None
    assert f"beta = {fitted['beta']:.4g} +- {fitted['beta_se']:.2g} (standard error)" in result.err
    assert sagd("filter", "fit", "digits", "--method", "powerlaw", "-q").err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (["--method", "machted"], 2, "unknown method 'machted'. Did you mean matched?"),
        (["-o", "power=[[0,1],[1,1]]"], 2, "power is what matched is fitted for. Leave out -o power=."),
        (["--method", "powerlaw", "-o", "alpha=1"], 2, "alpha is what powerlaw is fitted for"),
        (["--schedule", "liner"], 2, "unknown schedule 'liner'"),
        (["-o", "kapa=1"], 2, "unknown key 'kapa'. Did you mean kappa"),
        (["-o", "kappa"], 2, "'kappa' is not key=value"),
    ],
)
def test_wrong_use_of_fit(sagd, arguments, code, fragment):
    refused(sagd("filter", "fit", "digits", *arguments), code, fragment)


@pytest.mark.parametrize(
    ("array", "fragment"),
    [
        (np.zeros((5, 1, 8, 8), np.uint8), "are all alike"),
        (np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8), "holds one image"),
        (np.where(np.arange(256).reshape(4, 1, 8, 8) == 77, np.nan, 0), "image 1 of"),
    ],
)
def test_data_without_a_spectrum(sagd, tmp_path, array, fragment):
    path = tmp_path / "data.npy"
    np.save(path, array)
    refused(sagd("filter", "fit", path), 1, fragment)
    refused(sagd("filter", "show", "white", "--data", path), 1, fragment)


def test_single_samples_have_no_spectrum_to_match(sagd, tmp_path):
    np.save(tmp_path / "ones.npy", np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1))
    refused(sagd("filter", "fit", tmp_path / "ones.npy"), 1, "are single samples")
    refused(sagd("filter", "fit", tmp_path / "ones.npy", "--method", "powerlaw"), 1, "too small")


# Designing


def test_design_warns_of_data_that_outshine_the_noise(sagd, strong):
    powerlaw = ["filter", "design", "--type", "powerlaw", "--data", strong]
    blue = sagd(*powerlaw, "--alpha", "1")
    assert blue.code == 0 and blue.out.startswith("type: powerlaw\n")
    (line,) = blue.err.splitlines()
    ratio = float(re.search(r"low \((\S+)\): signal to noise above 0\.01", line)[1])
    assert "the data still show through the noise at t = 1 in the band low" in line
    snr = sagd("filter", "show", "powerlaw:alpha=1", "--data", strong, "--json").json["snr"]
    assert ratio == pytest.approx(snr["largest_terminal"]["low"], rel=0.01) and ratio > 0.1
    assert sagd("filter", "design", "--type", "white", "--data", strong).err == ""
    assert sagd(*powerlaw, "--alpha", "-1").err == ""
    # A warning is not a note: --quiet keeps it.
    assert sagd(*powerlaw, "--alpha", "1", "-q").err == blue.err


def test_design_with_data_writes_the_same_file_as_without(sagd, strong):
    design = ["filter", "design", "--type", "powerlaw", "--alpha", "0.5"]
    assert sagd(*design, "--data", strong).out == sagd(*design).out
    refused(sagd(*design, "--data", "digits", "--size", "16x16"), 2, "have the shape 8x8, not 16x16")


SPELLINGS = [
    "type: bandpass\noptions: {low: 0.5, high: 1.0, floor: 0.0, transition: 0.0}\nnormalize: power\nunits: rho\n",
    "units: rho\noptions: {high: 1, low: .5}\ntype: bandpass\n",
    '{"type": "bandpass", "options": {"low": 0.50, "high": 1.0e+0, "floor": 0}}\n',
    "type: bandpass\noptions:\n  low: 5.0e-1\n  high: 1e0\n",
    f"type: bandpass\noptions: {{low: 0.5, high: 1}}\nsource: {{data: x, images: 3, sha256: {'ab' * 32}}}\n",
    "# a comment\n---\ntype: 'bandpass'\noptions: {low: +0.5, high: 1.}\nsource: null\n",
]


def test_the_hash_of_a_filter_file_is_that_of_its_meaning(sagd, tmp_path):
    hashes = set()
    for i, text in enumerate(SPELLINGS):
        path = tmp_path / f"{i}.yaml"
        path.write_text(text)
        checked = sagd("config", "validate", path, "--json").json
        assert checked["kind"] == "filter" and checked["valid"] is True
        hashes |= {checked["sha256"], sagd("filter", "show", path, "--json").json["sha256"]}
    assert len(hashes) == 1
    path.write_text(SPELLINGS[0].replace("0.5", "0.51"))
    assert sagd("config", "validate", path, "--json").json["sha256"] not in hashes


@pytest.mark.parametrize(
    ("source", "fragment"),
    [
        ("{data: x, images: 3}", "source.sha256"),
        ("{data: x, images: 0, sha256: " + "a" * 64 + "}", "source.images"),
        ("{data: x, images: 3, sha256: abc}", "source.sha256"),
        ("{data: x, images: 3, sha256: " + "a" * 64 + "beef}", "source.sha256"),
        ("{data: x, images: 3, image: 3, sha256: " + "a" * 64 + "}", "unknown key 'source.image'"),
    ],
    ids=["no hash", "no images", "short hash", "long hash", "unknown key"],
)
def test_a_damaged_source_is_named(sagd, tmp_path, source, fragment):
    path = tmp_path / "filter.yaml"
    path.write_text(f"type: white\nsource: {source}\n")
    refused(sagd("config", "validate", path), 2, fragment)


def test_the_schema_of_a_filter_file_describes_its_source(sagd):
    schema = sagd("config", "schema", "filter").out
    document = json.loads(schema)
    assert document["additionalProperties"] is False
    assert set(document["properties"]) == {"type", "options", "normalize", "units", "omit", "source"}
    source = document["$defs"]["FilterSource"]
    assert sorted(source["required"]) == ["data", "images", "sha256"]
    assert source["additionalProperties"] is False
    assert all(field["description"] for field in source["properties"].values())


def test_the_schema_accepts_what_fit_writes_and_no_damaged_source(sagd):
    jsonschema = pytest.importorskip("jsonschema")
    document = sagd("config", "schema", "filter").json
    fitted = sagd("filter", "fit", "digits", "--json").json
    fitted = {key: fitted[key] for key in document["properties"]}
    jsonschema.validate(fitted, document)
    for key, value in (("images", 0), ("sha256", "abc"), ("extra", 1)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**fitted, "source": {**fitted["source"], key: value}}, document)


def test_a_file_without_a_type_is_no_filter(sagd, tmp_path):
    (tmp_path / "f.yaml").write_text("normalize: power\n")
    for command in (["filter", "show"], ["config", "validate"]):
        refused(sagd(*command, tmp_path / "f.yaml"), 2, "f.yaml names no type of filter")


def test_a_wrong_option_names_the_file_it_is_in(sagd, tmp_path):
    (tmp_path / "f.yaml").write_text("type: bandpass\noptions: {flooor: 0.1}\n")
    refused(
        sagd("filter", "compare", "white", tmp_path / "f.yaml"),
        2,
        "f.yaml: filter bandpass: unknown key 'flooor'",
    )


def test_the_schema_knows_the_options_of_every_family(sagd):
    schema = sagd("config", "schema", "filter", "--json").json
    options = {
        family["properties"]["type"]["const"]: family["properties"]["options"] for family in schema["oneOf"]
    }
    assert set(options) == {row["type"] for row in sagd("filter", "list", "--json").json["filters"]}
    assert all(family["additionalProperties"] is False for family in options.values())
    assert set(options["bandpass"]["properties"]) == {"low", "high", "floor", "transition"}


def test_zero_and_minus_zero_are_one_number(sagd):
    one, other = (sagd("filter", "show", f"powerlaw:alpha={zero}", "--json").json for zero in ("0", "-0.0"))
    assert one["sha256"] == other["sha256"]


def test_a_size_beyond_reason_is_wrong_use(sagd):
    for size in ("99999999999999999999", "100000x100000"):
        assert sagd("filter", "show", "white", "--size", size).code == 2
