"""Bad input ends in one clear sentence and the right exit code, never a traceback, and loses nothing."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def digits(tmp_path):
    """A folder of twelve real 8x8 digits as PNG."""
    from sklearn.datasets import load_digits

    folder = tmp_path / "digits"
    folder.mkdir()
    for i, image in enumerate(load_digits().images[:12]):
        Image.fromarray(np.uint8(image * 15)).save(folder / f"{i:02d}.png")
    return folder


def one_sentence(result, code, *fragments):
    assert result.code == code, result
    assert "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, result.err
    for fragment in fragments:
        assert fragment in lines[0]


CASES = [
    (["filter", "design", "--type", "bandpas"], "unknown filter 'bandpas'. Did you mean bandpass"),
    (["filter", "design"], "Missing option '--type'"),
    (["filter", "design", "--type", "bandpass", "-o", "lo=1"], "unknown key 'lo'. Did you mean low"),
    (["filter", "design", "--type", "bandpass", "-o", "low"], "'low' is not key=value"),
    (["filter", "design", "--type", "bandpass", "-o", "low=x"], "low: input should be a valid number"),
    (["filter", "design", "--type", "bandpass", "--low", "0.1", "-o", "low=0.2"], "low is given twice"),
    (["filter", "design", "--type", "bandpass", "--high", "1.5"], "band edge 1.5 is outside the spectrum"),
    (["filter", "design", "--type", "bandpass", "--low", "0.6"], "band 0.6 to 0.5 is reversed"),
    (
        ["filter", "design", "--type", "bandpass", "--low", "-1"],
        "low: input should be greater than or equal to 0",
    ),
    (["filter", "design", "--type", "bandpass", "-o", "low=.nan"], "low: input should be a finite number"),
    (
        ["filter", "design", "--type", "twoband", "-o", "gamma_low=0", "-o", "gamma_high=0"],
        "zero at every frequency",
    ),
    (["filter", "design", "--type", "radial", "-o", "knots=[[0, 1], [0, 2]]"], "increasing order of rho"),
    (["filter", "design", "--type", "radial", "-o", "knots=[[0, 1], [1, -2]]"], "must not be negative"),
    (["filter", "design", "--type", "white", "--normalize", "loud"], "normalize: input should be"),
    (["filter", "design", "--type", "white", "--units", "metres"], "units: input should be"),
    (["filter", "show", "white", "--size", "8x"], "'8x' is not a size"),
    (["filter", "show", "missing.yaml"], "cannot read missing.yaml"),
    (["train", "--preset", "mnits"], "unknown preset 'mnits'. Did you mean mnist"),
    (["train", "--set", "trainin.seed=1"], "unknown key 'trainin'. Did you mean training"),
    (["train", "--set", "training.batch=1"], "unknown key 'training.batch'. Did you mean batch_size"),
    (["train", "--set", "training.seed.x=1"], "training.seed"),
    (["train", "--dataset", "digit"], "no file or folder of that name. Did you mean digits"),
    (["train", "--dataset", "digits:val"], "a split is train or test"),
    (
        ["train", "--dataset", "no/such/folder"],
        "not a folder of images, an image, a file of many images or a data set",
    ),
    (["train", "--backbone", "unett"], "unknown backbone 'unett'. Did you mean unet"),
    (["train", "--schedule", "cosin"], "schedule: input should be 'linear', 'cosine' or 'edm'"),
    (["train", "--steps", "5", "--images", "5"], "--images and --steps both"),
    (["train", "--steps", "0"], "Invalid value for '--steps'"),
    (["train", "--lr", "-1"], "training.learning_rate: input should be greater than 0"),
    (["train", "--device", "cuda"], "has no CUDA"),
    (["train", "--device", "tpu"], "unknown device 'tpu'"),
    (["train", "--stepz", "5"], "No such option: --stepz"),
    (["sample", "no/such/run"], "no/such/run is not a run"),
    (["omit", "no/such/folder", "--band", "high"], "not a folder of images"),
    (["omit", ".", "--band", "hihg"], "unknown band 'hihg'. Did you mean high"),
    (["omit", ".", "--band", "0.5:0.2"], "reversed"),
    (["omit", ".", "--band", "a:b"], "unknown kind of band 'a'"),
    (["omit", ".", "--band", "0.1:b"], "not LO:HI with two numbers"),
    (["omit", ".", "--band", "high", "--strength", "much"], "--strength is auto, inf or a number"),
    (["omit", ".", "--band", "high", "--strength", "-1"], "the strength must be from"),
    (["omit", ".", "--band", "high", "--strength", "nan"], "the strength must be from"),
    (["corrupt", ".", "--band", "high", "--strength", "inf", "--output", "x"], "finite number"),
    (["fid", "digits", "digits", "--max-fid", "nan"], "'--max-fid': Input should be a finite number"),
    (["fid", "digits", "digits", "--max-kid", "inf"], "'--max-kid': Input should be a finite number"),
    (["sample", "runs/x", "--churn", "nan"], "'--churn': Input should be a finite number"),
    (["train", "--lr", "nan"], "'--lr': Input should be a finite number"),
    (["sample", "runs/x", "--count", "1.5e0"], "'--count': Input should be a valid integer"),
    (["sample", "runs/x", "--eta", "2"], "less than or equal to 1"),
    (["train", "--images", "1e-3"], "Invalid value for '--images'"),
    (
        ["fid", "digits:test", "digits:test", "--weights", "x.pth"],
        "features digits-cnn: unknown key 'weights'",
    ),
    (
        ["filter", "show", "radial:knots=" + "[" + ",".join("[0.5,1]" for _ in range(60)) + "]"],
        "increasing order",
    ),
    (["train", "--dataset", ""], "is not a folder of images"),
    (["train", "--preset", ""], "unknown preset ''"),
    (["train", "--config", "-", "--filter", "-"], "both read standard input"),
    (["train", "--size", "8"], "--size is for image files"),
    (["data", "prepare", "digits", "--output", "x.zip"], "neither a .npy or .npz file nor a folder"),
    (["omit", "", "--band", "high"], "holds no image"),
    (["omit", ".", "--band", "high", "--estimate", "best"], "unknown estimate 'best'"),
    (
        ["corrupt", ".", "--band", "high", "--strength", "0", "--output", "x"],
        "strength must be from 1e-06 to 1e+06",
    ),
    (["corrupt", ".", "--band", "high", "--output", "x"], "the noise 0.5:1 has no strength"),
    (["corrupt", ".", "--strength", "1", "--output", "x"], "either --band or --noise"),
    (["corrupt", ".", "--band", "high", "--noise", "white", "--output", "x"], "either --band or --noise"),
    (["corrupt", ".", "--noise", "hihg:level=1", "--output", "x"], "unknown noise 'hihg'. Did you mean high"),
    (["corrupt", ".", "--noise", "white", "--output", "x"], "the noise white has no strength"),
    (["corrupt", ".", "--noise", "white:level=1", "--strength", "1", "--output", "x"], "has its own level"),
    (
        ["corrupt", ".", "--noise", "low:level=inf", "--output", "x"],
        "level=inf is lost, and no noise to add",
    ),
    (
        ["corrupt", ".", "--noise", "from:no/dark.tif", "--output", "x"],
        "no/dark.tif is not a folder of images",
    ),
    (["fid", "digits", "digits", "--metrics", "fidd"], "unknown metric 'fidd'. Did you mean fid"),
    (["fid", "digits", "digits", "--features", "inception"], "need the weights of Inception-v3"),
    (["fid", "digits", "digits", "--features", "vgg"], "unknown feature 'vgg'"),
    (["fid", "digits", "digits", "--layer", "65"], "no layer '65'"),
    (["fid", "digits", "digits", "--metrics", "kid", "--max-fid", "1"], "--max-fid needs fid"),
    (["config", "schema", "ron"], "unknown kind 'ron'"),
    (["data", "info", "digits:huge"], "a split is train or test"),
    (["nonsense"], "No such command 'nonsense'"),
]


@pytest.mark.parametrize(
    ("arguments", "fragment"), CASES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_use_exits_2_with_one_sentence(sagd, arguments, fragment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = sagd(*arguments)
    one_sentence(result, 2, fragment)
    assert list(tmp_path.iterdir()) == []


def test_errors_are_objects_under_json(sagd):
    result = sagd("filter", "design", "--type", "bandpas", "--json")
    error = json.loads(result.err)["error"]
    assert result.code == 2 and result.out == ""
    assert set(error) == {"code", "message", "hint"} and "bandpass" in error["hint"]


YAML = {
    "- a\n- b\n": "is a list, not a YAML mapping",
    "": "is empty, not a YAML mapping",
    "a: &x 1\nb: *x\n": "aliases are not allowed",
    "type: white\ntype: white\n": "line 2, column 1: duplicate key 'type'",
    "type: [white\n": "line 2",
    "? [a, b]\n: 1\n": "a key is not a name",
    "type: !!python/object/apply:os.system [ls]\n": "could not determine a constructor",
    "type: white\nnorm: power\n": "unknown key 'norm'. Did you mean normalize",
    "{" * 5000: "",
    "type: \x00\n": "not valid YAML",
}


@pytest.mark.parametrize(("text", "fragment"), YAML.items(), ids=[repr(text[:20]) for text in YAML])
def test_bad_yaml(sagd, tmp_path, text, fragment):
    path = tmp_path / "f.yaml"
    path.write_text(text)
    one_sentence(sagd("filter", "show", path), 2, fragment)


def test_a_number_like_1e_4_is_a_number(sagd, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("training: {learning_rate: 1e-4}\n")
    assert sagd("config", "show", "--config", path, "--json").json["training"]["learning_rate"] == 1e-4


def test_an_existing_output_is_kept(sagd, tmp_path, digits):
    target = tmp_path / "filter.yaml"
    target.write_text("mine")
    one_sentence(
        sagd("filter", "design", "--type", "white", "--output", target), 2, "exists already", "--force"
    )
    assert target.read_text() == "mine"
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "note.txt").write_text("mine")
    for command in (
        ["corrupt", digits, "--band", "high", "--strength", 1, "--output", keep],
        ["omit", digits, "--band", "high", "--estimate", "notch", "--output", keep],
        ["data", "prepare", "digits:test", "--output", keep],
    ):
        one_sentence(sagd(*command), 2, "exists already")
    assert [path.name for path in keep.iterdir()] == ["note.txt"]


def test_omit_does_not_write_over_its_input(sagd, digits):
    result = sagd("omit", digits, "--band", "high", "--estimate", "notch", "--output", digits, "--force")
    one_sentence(result, 2, "is where the input is")


def test_an_empty_folder(sagd, tmp_path):
    (tmp_path / "empty").mkdir()
    for command in (["train", "--dataset"], ["omit", "--band", "high"]):
        one_sentence(sagd(*command, tmp_path / "empty"), 2, "holds no image")


def test_mixed_sizes_are_named_and_size_mends_them(sagd, digits, tmp_path):
    Image.new("L", (9, 7)).save(digits / "odd.png")
    one_sentence(sagd("data", "info", digits), 1, "9 x 7", "8 x 8", "--size N")
    result = sagd("data", "prepare", digits, "--size", 8, "--output", tmp_path / "all.npy", "--json")
    assert result.json["shape"] == [1, 8, 8] and np.load(tmp_path / "all.npy").shape == (13, 1, 8, 8)


@pytest.mark.parametrize("data", ["digits", "digits:test", "a.npy"])
@pytest.mark.parametrize("option", [("--mode", "rgb"), ("--size", 4)])
def test_what_is_for_folders_of_images_is_refused_for_other_data(sagd, tmp_path, monkeypatch, data, option):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.zeros((3, 1, 8, 8), np.uint8))
    result = sagd("data", "prepare", data, *option, "--output", "out.npy")
    assert result.code == 2 and not (tmp_path / "out.npy").exists()
    named = "a.npy" if data == "a.npy" else "the data set digits"
    assert f"{option[0]} is for image files, and {named} holds none" in result.err
    if option[0] == "--size":
        result = sagd("train", "--dataset", data, *option, "--dry-run")
        assert result.code == 2 and f"--size is for image files, and {named} holds none" in result.err


def test_bad_files_are_skipped_and_their_neighbours_done(sagd, digits, tmp_path):
    whole = (digits / "00.png").read_bytes()
    (digits / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (digits / "text.png").write_text("this is no image")
    Image.new("LAB", (8, 8)).save(digits / "lab.tif")
    bomb = Image.new("1", (10_000, 10_000))
    bomb.save(digits / "bomb.png")
    result = sagd(
        "omit", digits, "--band", "high", "--estimate", "notch", "--output", tmp_path / "out", "--json"
    )
    assert result.code == 1
    assert len(result.json["files"]) == 12 and len(result.json["failed"]) == 4
    assert json.loads(result.err.splitlines()[-1])["error"]["message"] == "12 ok, 4 failed"
    for name in ("truncated.png", "text.png", "lab.tif", "bomb.png"):
        assert any(name in item["error"] for item in result.json["failed"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{i:02d}.png" for i in range(12)]


def test_depth_mode_and_alpha_survive_omission(sagd, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    grey = np.random.default_rng(0).integers(0, 65536, (16, 16), dtype=np.uint16)
    Image.fromarray(grey).save(folder / "deep.tiff")
    alpha = np.random.default_rng(1).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    Image.fromarray(alpha).save(folder / "alpha.png")
    assert (
        sagd("omit", folder, "--band", "0.9:1", "--estimate", "notch", "--output", tmp_path / "out").code == 0
    )
    with (
        Image.open(tmp_path / "out" / "deep.tiff") as deep,
        Image.open(tmp_path / "out" / "alpha.png") as rgba,
    ):
        assert deep.mode == "I;16" and rgba.mode == "RGBA"
        assert np.array_equal(np.asarray(rgba)[..., 3], alpha[..., 3])


def test_a_band_without_frequencies_at_this_size_fails_the_file_only(sagd, digits, tmp_path):
    Image.new("L", (64, 64), 90).save(digits / "large.png")
    result = sagd(
        "omit", digits, "--band", "0.9:0.95", "--estimate", "notch", "--output", tmp_path / "o", "--json"
    )
    assert result.code == 1 and len(result.json["files"]) == 1 and len(result.json["failed"]) == 12
    assert "holds no frequency" in result.json["failed"][0]["error"]


def test_truth_must_match_by_name(sagd, digits, tmp_path):
    truth = shutil.copytree(digits, tmp_path / "truth")
    (truth / "03.png").unlink()
    result = sagd("omit", digits, "--band", "high", "--estimate", "notch", "--truth", truth)
    one_sentence(result, 2, "no image for 03.png")


def test_a_folder_without_excess_in_the_band_is_not_changed(sagd, tmp_path):
    assert sagd("data", "prepare", "digits:test", "--output", tmp_path / "clean").code == 0
    one_sentence(sagd("omit", tmp_path / "clean", "--band", "high"), 1, "there is no noise to omit")
    assert not (tmp_path / "clean-omitted").exists()


def test_arrays_that_are_no_images(sagd, tmp_path):
    np.save(tmp_path / "number.npy", np.uint8(3))
    np.save(tmp_path / "flat.npy", np.zeros((4, 8), np.uint8))
    np.save(tmp_path / "none.npy", np.zeros((0, 1, 8, 8), np.uint8))
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("hello")
    for name, fragment in {
        "number": "is uint8 of shape (), not",
        "flat": "of shape (4, 8) may be 4 signals of length 8 in 1 channel (nt) or 1 image of 4x8",
        "none": "is uint8 of shape (0, 1, 8, 8), not",
        "object": "cannot be read: it holds Python objects",
        "text": "cannot be read",
    }.items():
        one_sentence(sagd("data", "info", tmp_path / f"{name}.npy"), 1, fragment)
    one_sentence(sagd("data", "info", tmp_path / "missing.npy"), 2, "there is no file")


def test_a_truth_that_cannot_be_used_is_found_before_any_work(sagd, digits, tmp_path):
    truth = shutil.copytree(digits, tmp_path / "truth")
    Image.new("L", (9, 7)).save(truth / "05.png")
    result = sagd(
        "omit", digits, "--band", "high", "--estimate", "notch", "--truth", truth, "--output", tmp_path / "o"
    )
    one_sentence(result, 1, "05.png has the shape")
    assert not (tmp_path / "o").exists()


def test_a_preset_gives_way_to_another_plugin(sagd):
    shown = sagd("train", "--preset", "cifar10", "--backbone", "dit", "--dry-run", "--json").json
    assert "channels" not in shown["config"]["backbone"]["options"]
    shown = sagd("config", "show", "--preset", "mnist", "--set", "filter.type=white", "--json").json
    assert shown["filter"]["options"] == {}


def test_a_data_set_goes_before_a_folder_of_its_name(sagd, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sagd("data", "info", "digits", "--json").json["count"] == 1500
    assert sagd("data", "info", "./digits", "--json").json["count"] == 12


@pytest.mark.parametrize("settings", ["PYTHONIOENCODING=ascii", "PYTHONUTF8=0 LC_ALL=C"])
def test_a_terminal_without_unicode(settings):
    import subprocess
    import sys

    command = f"{settings} {sys.executable} -m sagd_cli filter show white"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert "rank" in done.stdout and done.stderr == ""


def test_a_closed_standard_output_is_not_a_traceback():
    import subprocess
    import sys

    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m sagd_cli filter list >&-"], capture_output=True, check=False
    )
    assert b"Traceback" not in done.stderr


def test_no_colour_codes_without_a_terminal_even_on_ci(sagd, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for arguments in (["--help"], ["filter", "list"], ["filter", "design", "--type", "x"]):
        result = sagd(*arguments)
        assert "\x1b" not in result.out + result.err


def test_internal_errors_have_no_traceback_unless_asked(sagd, monkeypatch):
    from sagd_cli.config import layers

    def broken(*args, **kwargs):
        raise RuntimeError("boom")

    monkeypatch.setattr(layers, "presets", broken)
    one_sentence(sagd("train", "--preset", "x"), 1, "internal error: RuntimeError: boom", "--debug")
    assert "Traceback" in sagd("train", "--preset", "x", "--debug").err


def test_a_closed_pipe_is_not_an_error_message(tmp_path):
    import subprocess
    import sys

    command = f"{sys.executable} -m sagd_cli filter list | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_amounts_on_the_command_line_may_have_an_exponent(sagd, tmp_path):
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(tmp_path / "one.png")
    target = tmp_path / "data.npy"
    assert sagd("data", "prepare", tmp_path, "--size", "2e1", "--output", target).code == 0
    assert np.load(target).shape == (1, 1, 20, 20)


def test_a_group_of_settings_is_not_replaced_by_one_value(sagd, tmp_path):
    (tmp_path / "c.yaml").write_text("training: {images: 16}\n")
    for settings in (
        ["training=1", "training.seed=2"],
        ["training=1"],
        ["training.images.most=3", "training.images=2"],
    ):
        given = [word for setting in settings for word in ("--set", setting)]
        result = sagd("config", "show", "--config", tmp_path / "c.yaml", *given)
        assert result.code == 2 and "is a group of settings in one place and a single value" in result.err


@pytest.mark.parametrize("size", [9001, 2**63, 10**30])
def test_a_size_that_no_image_has_is_wrong_use(sagd, digits, tmp_path, size):
    result = sagd("data", "prepare", digits, "--size", size, "--output", tmp_path / "o.npy")
    assert result.code == 2 and "size" in result.err and "8000" in result.err


@pytest.mark.parametrize("key", ["training.batch_size", "training.images", "training.seed"])
def test_numbers_beyond_what_torch_holds_are_wrong_use(sagd, key):
    assert sagd("config", "show", "--set", f"{key}={2**64}").code == 2


def test_a_circle_of_links_is_one_sentence(sagd, digits, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for arguments in (
        ["omit", tmp_path / "loop", "--band", "mid", "--estimate", "notch"],
        ["omit", digits, "--band", "mid", "--estimate", "notch", "--output", tmp_path / "loop"],
        ["data", "prepare", digits, "--output", tmp_path / "loop" / "x.npy"],
    ):
        result = sagd(*arguments)
        assert result.code in (1, 2) and "internal" not in result.err and "link" in result.err.lower()


def test_names_cannot_command_the_terminal(sagd, tmp_path):
    name = "a\x1b[31m\u202eb.yaml"
    for arguments in (
        ["config", "validate", name],
        ["sample", tmp_path / name],
        ["data", "info", f"{name}.npy"],
    ):
        result = sagd(*arguments)
        assert result.code == 2
        assert r"\x1b[31m\u202eb" in result.err and "\x1b" not in result.err and "\u202e" not in result.err


def test_an_output_in_a_file_is_refused_before_any_work(sagd, digits, tmp_path):
    (tmp_path / "old").write_text("")
    result = sagd(
        "omit", digits, "--band", "high", "--output", tmp_path / "o", "--record", tmp_path / "old" / "x.json"
    )
    assert result.code == 2 and "old is a file" in result.err and not (tmp_path / "o").exists()


def test_what_float32_cannot_hold_is_wrong_use(sagd, digits, tmp_path):
    for option in (
        ["--strength", "1e300"],
        ["--strength", 1, "--range", "0:1e-300"],
        ["--strength", 1, "--range", "1e9:1000000001"],
    ):
        result = sagd("corrupt", digits, "--band", "high", *option, "--output", tmp_path / "o")
        assert result.code == 2 and not (tmp_path / "o").exists()
