"""The library's face: light to import, typed, documented, and every block of its page runs."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sagd_cli
from sagd_cli.errors import ConfigError, DataError, UsageError

PAGE = Path(sagd_cli.__file__).resolve().parent.parent / "docs" / "library.md"


def test_importing_it_loads_nothing_heavy():
    code = "import sagd_cli, sys; sagd_cli.__all__; dir(sagd_cli); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"torch", "numpy", "pydantic", "typer"}.isdisjoint(loaded.split())


def test_type_checkers_see_the_names_that_are_handed_out():
    body = ast.parse(inspect.getsource(sagd_cli)).body
    (block,) = (node for node in body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module for node in block.body for alias in node.names if alias.asname == alias.name
    }
    assert seen == sagd_cli._HOMES


@pytest.mark.parametrize("name", [name for name in sagd_cli.__all__ if name != "__version__"])
def test_each_name_is_there_and_is_documented(name):
    value = getattr(sagd_cli, name)
    assert value.__module__ == sagd_cli._HOMES[name] and len(value.__doc__) > 25
    assert name in PAGE.read_text()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nois_like'"):
        _ = sagd_cli.nois_like


def test_the_page_runs(tiny_run, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits").symlink_to(tiny_run)
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, found)
    assert float(found["value"]) == pytest.approx(1, abs=0.05)
    assert found["digits"].shape == (16, 1, 8, 8) and found["digits"].dtype == np.uint8
    assert found["samples"].shape == (8, 1, 32, 32)
    error = [np.square(found[name].astype(float) - found["clean"]).mean() for name in ("damaged", "restored")]
    assert error[1] < 0.5 * error[0]


@pytest.mark.parametrize("shape", [(4000, 1, 12, 12), (4000, 2, 33), (500, 1, 5, 6, 7)])
def test_the_power_of_noise_like_is_the_weight_squared(shape):
    """At every frequency, within 5 standard errors."""
    x, generator = torch.empty(shape, dtype=torch.float64), torch.Generator().manual_seed(0)
    eps = sagd_cli.noise_like(x, "powerlaw:alpha=-0.4", generator)
    assert eps.shape == x.shape and eps.dtype == torch.float64
    dims = tuple(range(2, len(shape)))
    power = torch.fft.rfftn(eps, dim=dims, norm="ortho").abs().square().mean(dim=(0, 1)).numpy()
    expected = sagd_cli.design_filter("powerlaw:alpha=-0.4", shape[2:]).weight ** 2
    assert np.abs(power / expected - 1).max() <= 5 * np.sqrt(2 / (shape[0] * shape[1]))


def test_white_noise_is_torchs_own_draw():
    x = torch.zeros(2, 3, 8, 8)
    drawn = sagd_cli.noise_like(x, "white", torch.Generator().manual_seed(3))
    assert torch.equal(drawn, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)))
    torch.manual_seed(5)
    drawn = sagd_cli.noise_like(x, "white")
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.randn_like(x))


def test_noise_for_what_has_no_frequencies_is_refused():
    for x in (torch.zeros(3, 4), torch.zeros(1, 1, 4, 4, dtype=torch.int64), torch.zeros(1, 1, 2, 2, 2, 2)):
        with pytest.raises(ConfigError, match="floating images"):
            sagd_cli.noise_like(x, "white")
    with pytest.raises(ConfigError, match=r"for fields of shape \(8, 8\), not \(4, 4\)"):
        sagd_cli.noise_like(torch.zeros(1, 1, 4, 4), sagd_cli.design_filter("white", (8, 8)))


def test_a_filter_file_that_changed_is_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, drawn = torch.zeros(1, 1, 8, 8), []
    for text in ("type: powerlaw\noptions: {alpha: -0.5}\n", "type: white\n"):
        (tmp_path / "f.yaml").write_text(text)
        drawn.append(sagd_cli.noise_like(x, "f.yaml", torch.Generator().manual_seed(0)))
    assert not torch.equal(*drawn)
    assert torch.equal(drawn[1], torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))


def test_what_is_no_tensor_or_no_filter_is_refused():
    with pytest.raises(ConfigError, match="for torch tensors, not for ndarray"):
        sagd_cli.noise_like(np.zeros((1, 1, 8, 8)), "white")
    with pytest.raises(ConfigError, match="a SpectralFilter or a text, not NoneType"):
        sagd_cli.noise_like(torch.zeros(1, 1, 8, 8), None)


def test_parts_of_the_diffusion_refuse_what_they_do_not_know():
    noise = sagd_cli.SpectralNoise(sagd_cli.design_filter("white", (8, 8)))
    process = sagd_cli.ForwardProcess(sagd_cli.make_schedule("linear"), noise)
    with pytest.raises(ConfigError, match="unknown loss 'whitend'"):
        sagd_cli.DiffusionLoss(process, kind="whitend")
    with pytest.raises(ConfigError, match="unknown sampler 'huen'"):
        sagd_cli.make_sampler("huen", noise.draw, 3)
    with pytest.raises(ConfigError, match="at least 1 step, not 0"):
        sagd_cli.sampling_levels(process.schedule, 0, "cpu")
    with pytest.raises(ConfigError, match=r"for fields of shape \(8, 8\), not \(1, 1, 16, 16\)"):
        noise.color(torch.zeros(1, 1, 16, 16))
    for table in ([1.0], [0.0, 1.0], [[1.0, 0.0]], [1.0, float("nan")]):
        with pytest.raises(ConfigError, match="log-SNRs that fall"):
            sagd_cli.Schedule(np.array(table))


def test_a_schedule_of_ones_own_has_the_log_snr_of_its_table():
    schedule = sagd_cli.Schedule(np.linspace(4, -6, 11))
    alpha, sigma = schedule.levels(torch.linspace(0, 1, 11))
    assert (alpha**2 / sigma**2).log().numpy() == pytest.approx(np.linspace(4, -6, 11), abs=1e-5)
    assert (alpha**2 + sigma**2).numpy() == pytest.approx(1)


def test_samples_of_a_loaded_run_are_those_of_the_command_line(tiny_run, sagd, tmp_path):
    command = ("sample", tiny_run, "-n", 3, "--seed", 7, "--steps", 4, "--format", "npz", "--output")
    assert sagd(*command, tmp_path / "s").code == 0
    with np.load(tmp_path / "s" / "samples.npz") as archive:
        drawn = archive["images"]
    run = sagd_cli.load(tiny_run, device="cpu")
    assert np.array_equal(run.sample(3, seed=7, steps=4, batch_size=250), drawn)
    with pytest.raises(ConfigError, match="smapler"):
        run.sample(1, smapler="heun")
    with pytest.raises(UsageError, match="n is at least 1, not 0"):
        run.sample(0)
    with pytest.raises(UsageError, match="batch_size is at least 1, not -1"):
        run.sample(1, batch_size=-1)
    with pytest.raises(UsageError, match="is not a run"):
        sagd_cli.load(tmp_path / "none")


@pytest.mark.parametrize(("dtype", "scale"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_restoring_arrays_is_restoring_files(dtype, scale, tmp_path, sagd):
    """The same pixels as `sagd omit` writes, in the type of the images."""
    rng = np.random.default_rng(0)
    rows = 0.4 + 0.02 * rng.standard_normal((2, 1, 40, 1)) + 0.05 * rng.standard_normal((2, 1, 40, 40))
    images = (rows * scale).astype(dtype)
    for i, image in enumerate(images):
        from sagd_cli.data.images import write_array

        (tmp_path / "in").mkdir(exist_ok=True)
        write_array(image, tmp_path / "in" / f"{i}.tiff")
    command = ("omit", tmp_path / "in", "--band", "stripe:horizontal", "--estimate", "notch", "--output")
    assert sagd(*command, tmp_path / "out").code == 0
    restored = sagd_cli.restore(images, sagd_cli.Band.parse("stripe:horizontal"), estimate="notch")
    assert restored.dtype == images.dtype
    from sagd_cli.data.images import read_image

    for i in range(2):
        assert np.array_equal(restored[i], read_image(tmp_path / "out" / f"{i}.tiff").pixels)


def test_arrays_that_are_no_images_are_refused():
    for images in (np.zeros((2, 8, 8), np.uint8), np.zeros((2, 2, 8, 8), np.uint8), np.zeros((2, 1, 8, 8))):
        with pytest.raises(DataError, match=r"images are \(N, C, H, W\)"):
            sagd_cli.restore(images, "high")
    for images, message in (
        (torch.zeros(1, 1, 8, 8), "a NumPy array"),
        (np.zeros((0, 1, 8, 8), np.uint8), "of shape"),
        (np.full((1, 1, 8, 8), np.nan, np.float32), "not finite"),
    ):
        with pytest.raises(DataError, match=message):
            sagd_cli.restore(images, "high")


def test_settings_of_restoring_are_known_and_doubts_are_python_warnings():
    images = np.random.default_rng(0).integers(100, 150, (2, 1, 32, 32)).astype(np.uint8)
    with pytest.raises(UsageError, match="no setting 'step'") as refused:
        sagd_cli.restore(images, "high", step=3)
    assert "steps" in refused.value.hint
    smooth = np.broadcast_to(np.linspace(60, 190, 64).astype(np.uint8), (2, 1, 64, 64))
    with pytest.warns(UserWarning, match="may be of the images alone") as warned:
        sagd_cli.restore(smooth.copy(), "notch:0.25,0.1,0.05", estimate="notch")
    assert warned[0].filename == __file__
