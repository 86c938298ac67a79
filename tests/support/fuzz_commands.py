"""The command lines of the fuzz: for each argument and option of a sub-command, valid values and hostile ones.

Paths are as seen from a folder beside `in/`, the inputs. Outputs go into that folder, which holds some `old` ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from support.fuzz_inputs import NAMES

TEXTS = (
    *(
        "",
        " ",
        ".",
        "-",
        "--",
        "~",
        "*",
        "null",
        "true",
        "é☃\u202e",
        "\x1b[31mred",
        "a\tb",
        "a\nb",
        "%s",
        "{x}",
    ),
    *(
        "x" * 5000,
        "[1",
        "{a: 1}",
        "=",
        "=1",
        ",",
        ":",
        "+",
        "[red]x[/red]",
        "0x10",
        "2020-01-01",
        "../in/text.txt",
    ),
    *(
        "no/such/file",
        "no/such/file.npy",
        "../in/loop",
        "../in/loop/x.png",
        "../in",
        "/proc/self/mem",
        "/dev/null",
    ),
)
NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "-1",
    "-0",
    "1e999",
    "1" + 30 * "0",
    "",
    "1,5",
    "½",
    "٣",
    "1_0",
    "0x10",
    " 1",
    "x",
)
WHOLE_NUMBERS = (*NUMBERS, "0", "1.5", "1e3", "9223372036854775808", "18446744073709551616")
# What is not asked for: names outside the folder of outputs, which would be written.
TARGETS = (
    "",
    " ",
    ".",
    "-",
    "old",
    "old.png",
    "old.npy",
    "no/such/dir/x",
    "x" * 300,
    "a\nb",
    "\x1b[31m",
    "/proc/x",
    "old.png/x",
)

GREY = tuple(
    f"../in/{name}" for name in ("grey", "unit", "floats", "mixed/g8.png", "mixed/g16.png", "large.png")
)
FOLDERS = (*GREY, "../in/colours", *(f"../in/mixed/{name}" for name in (
    "ga8.png", "rgba8.png", "rgb16.png", "f32.tiff", "g12in16.tif", "hounsfield.tif", "b8.bmp", "p8.pgm", "photo.jpg",
    "photo.webp")), *(f"../in/names/{name}.png" for name in NAMES), "../in/mixed", "../in/flat.png")  # fmt: skip
ODD_FOLDERS = ("../in/hostile", "../in/names", "../in/empty", "../in/nopictures", "../in/row.png", "../in/column.tif",
               "../in/dot.png", "../in/classes", "../in/mixed/photo.gif", "../in/u8.npy", "../in/hostile/loop.png",
               "../in/hostile/pipe.png", "../in/hostile/empty.png", "../in/hostile/folder.png", "../in/run",
               "../in/hostile/nodata.tif", "../in/hostile/dangling.png", "../in/text.txt", "old", *TEXTS)  # fmt: skip
ARRAYS = tuple(f"../in/{name}" for name in ("u8.npy", "f32.npy", "rgb.npy", "labelled.npz"))
DATA = ("digits:test", "../in/grey", "../in/colours", "../in/classes", "../in/unit", "../in/floats", *ARRAYS)
ODD_DATA = tuple(f"../in/{name}" for name in (
    "signals.npy", "f64.npy", "nhwc.npy", "nhw.npy", "nan.npy", "none.npy", "one.npy", "scalar.npy", "bool.npy", "complex.npy",
    "text.npy", "big-endian.npy", "u16.npy", "huge.npy", "object.npy", "truncated.npy", "boast.npy", "empty.npy",
    "unnamed.npz", "short.npz", "statistics.npz", "text.npz", "mixed", "hostile", "names", "empty", "flat.png", "dot.png"))  # fmt: skip
ODD_DATA += ("digits:val", "digits:x=1", "digits:,,", "mnist:root=/no", "cifar10", "patches", "folder", "npy",
             "npy:path=../in/u8.npy", "folder:path=../in/grey", "patches:path=../in/large.png,size=8",
             "patches:path=../in/grey,size=1", "folder:path=[1]", "digits:test,train", *TEXTS)  # fmt: skip
BANDS = ("low", "mid", "high", "0.5:1", "0:0.3", "0.3:0.6", "notch:0.25,0.1,0.05", "stripe:horizontal", "stripe:vertical,0.1",
         "0.3:0.5+notch:0.1,0.4,0.05")  # fmt: skip
ODD_BANDS = ("auto", "0.5:0.5", "1:0", "nan:1", "0:1e999", "0:2", "-1:0", "0.5:1:2", "notch:", "notch:0,0,0", "notch:0.6,0,0.1",
             "notch:0.1,0.1,0.1,0.1", "notch:0.1,0.1", "stripe:", "stripe:diagonal", "stripe:horizontal,9", "low+", "+",
             "0.001:0.002", "ring:0:1", "low" + 2000 * "+low", "rings", *TEXTS)  # fmt: skip
FILTERS = ("white", "powerlaw", "powerlaw:alpha=-0.3", "bandpass:low=0.2,high=0.6,floor=0.1", "radial:knots=[[0,1],[1,2]]",
           "twoband", "notch", "stripe", "exponential", "learned", "../in/filter.yaml", "../in/white.yaml")  # fmt: skip
ODD_FILTERS = ("-", "../in/run", "../in/cut", "matched", "powerlaw:alpha=nan", "powerlaw:alpha=1e308", "bandpass:low=1,high=0",
               "bandpass:low", "white:x=1", "radial:knots=[]", "radial:knots=[[0,1],[0,2]]", "exponential:beta=1e9",
               "lowpass:cutoff=0", "notch:frequencies=x", "white:,", ":", "learned:knots=-1",
               *(f"../in/{name}.yaml" for name in ("bomb", "nan", "negative", "zero", "typed", "no-type", "list", "empty", "deep",
               "tag", "date", "omitting", "binary", "tiny")), *TEXTS)  # fmt: skip
CONFIGS = ("../in/tiny.yaml",)
ODD_CONFIGS = ("-", *(f"../in/{name}" for name in (
    "huge.yaml", "wrong.yaml", "null.yaml", "bomb.yaml", "list.yaml", "deep.yaml", "date.yaml", "binary.yaml", "filter.yaml",
    "other.json", "run", "hostile/pipe.png")), *TEXTS)  # fmt: skip
SETTINGS = ("training.seed=3", "training.batch_size=4", "schedule=cosine", "training.flips=true", "backbone.options.channels=[8,16]",
            "prediction=v", "loss=min-snr", "training.accumulate=2", "blind=false")  # fmt: skip
ODD_SETTINGS = ("training.seed=-1", "training.seed=1e3", "training.batch_size=1e999", "training=1", "training.images=010",
                "training.images=true", "training.seed=1:30", "trainin.seed=1", "training.learning_rate=nan",
                "backbone.options.channels=[]", "backbone.options.channels=[-8]", "backbone.options.channels=[7]", "backbone=null",
                "filter.type=[x]", "filter.options.alpha=x", "filter.omit=low+", "training.batch_size=" + 30 * "9", "a" * 3000 + "=1",
                "a.b.c.d.e=1", ".=1", "training..seed=1", "schedule=2020-01-01", "sampling.steps=0", "restoration.bands=[]",
                "restoration.bands=[0.5:1]", "training.ema_half_life_images=[1,1]", *TEXTS)  # fmt: skip
SIZES, ODD_SIZES = (
    ("8", "16x12", "8X8"),
    ("0", "8x", "x8", "-8", "1x1", "2x1", "8x8x8x8", "999999999x999999999", "٣", "½", *TEXTS),
)
OPTIONS = ("alpha=-0.2", "delta=0.1", "low=0.2", "floor=0.1", "kappa=0.5")
ODD_OPTIONS = (
    "alpha=nan",
    "alpha",
    "low=x",
    "low=-1",
    "knots=[[0,1]]",
    "alpha=1e308",
    "alpha=true",
    "alpha=-1e308",
    *TEXTS,
)
STDIN = (
    "",
    "type: white\n",
    "type: bandpass\noptions: {low: 0.3}\n",
    "training: {images: 8}\n",
    "\0",
    "{" * 3000,
    "x" * 2_000_000,
)


@dataclass(frozen=True)
class Values:
    """Values of one argument or option: `flag` is its name, "" for an argument. `often` is how often it is given.

    An option without values is a switch.
    """

    flag: str
    valid: Sequence[str] = ()
    hostile: Sequence[str] = ()
    often: float = 0.2


@dataclass(frozen=True)
class Command:
    """A sub-command; `often` is its weight among all."""

    words: str
    values: Sequence[Values]
    often: float = 1.0


@dataclass(frozen=True)
class Case:
    """One command line. `given` are the values by name; `is_valid` says that none of them is hostile."""

    command: str
    words: tuple[str, ...]
    given: dict[str, str] = field(default_factory=dict)
    stdin: str = ""
    is_valid: bool = True


def _always(flag: str, valid: Sequence[str], hostile: Sequence[str]) -> Values:
    return Values(flag, valid, hostile, 1.0)


def _output(*valid: str, often: float = 1.0) -> Values:
    return Values("--output", valid, TARGETS, often)


_FORCE, _SEED = Values("--force"), Values("--seed", ("0", "7"), WHOLE_NUMBERS)
_DEVICE = Values("--device", ("cpu", "auto"), ("cuda", "cuda:9", "cuda:-1", "tpu", *TEXTS), 0.1)
_PLOT = Values("--plot", ("plot.png", "plot.svg"), (*TARGETS, "plot.xyz"), 0.05)
_SCHEDULE = Values("--schedule", ("linear", "cosine", "edm"), TEXTS)
_RANGE = Values(
    "--range",
    ("0:255", "0:1", "-1000:3000"),
    ("1:0", "0:0", "nan:1", "0:inf", "0", "0:1:2", "0:1e-300", *TEXTS),
    0.1,
)
_DATA, _SIZE = Values("--data", DATA[:6], ODD_DATA), Values("--size", SIZES, ODD_SIZES, 0.3)
_CONFIG = (
    Values("--preset", ("mnist", "digits"), TEXTS, 0.1),
    Values("--set", SETTINGS, ODD_SETTINGS, 0.4),
)
_FIGURES = (Values("--features", ("pixels", "spectrum"), ("inception", "digits-cnn", "vgg", *TEXTS), 1.0),)
_ALIKE = ("digits:test", "../in/u8.npy", "../in/f32.npy", "../in/classes", "../in/labelled.npz")
_SAMPLER = ("dpmpp", "dpmpp-sde", "unipc", "ddim", "ddpm", "heun")
_RUNS, _ODD_RUNS = (
    ("../in/run",),
    ("../in/cut", "../in/misconfigured", "../in/no-checkpoint", "../in/grey", "../in/empty", "old", *TEXTS),
)
_TRAIN = (
    Values("--dataset", ("digits", "../in/u8.npy", "../in/f32.npy", "../in/grey", "../in/classes"), ODD_DATA, 0.6),
    Values("--size", ("8",), ("0", "1", "-1", *NUMBERS, "100000"), 0.1),
    Values("--backbone", ("unet", "dit"), TEXTS, 0.05),
    Values("--filter", FILTERS, ODD_FILTERS, 0.4),
    Values("--omit-band", BANDS[:6], ODD_BANDS, 0.15),
    Values("--blind"),
    Values("--class-conditional", often=0.1),
    Values("--restore", ("rings", *BANDS[:6]), ODD_BANDS, 0.1),
    _SCHEDULE,
    Values("--prediction", ("eps", "x0", "v", "edm", "edm-spectral"), TEXTS),
    Values("--loss", ("plain", "whitened", "min-snr"), TEXTS, 0.1),
    Values("--batch-size", ("4", "8"), WHOLE_NUMBERS),
    Values("--lr", ("1e-3", "0.01"), (*NUMBERS, "1e30", "0"), 0.2),
    _SEED,
    Values("--precision", ("auto", "fp32", "bf16"), TEXTS, 0.1),
    _DEVICE,
    *_CONFIG,
)  # fmt: skip

COMMANDS = (
    Command("filter design", (
        _always("--type", ("white", "powerlaw", "bandpass", "lowpass", "exponential", "twoband"), ("matched", *TEXTS)),
        Values("-o", OPTIONS, ODD_OPTIONS, 0.3),
        Values("--low", ("0.1", "0.25"), NUMBERS), Values("--high", ("0.6", "0.75"), NUMBERS),
        Values("--alpha", ("-0.1",), NUMBERS), Values("--cutoff", ("0.5",), NUMBERS),
        Values("--normalize", ("power", "none", "peak"), TEXTS), Values("--units", ("rho", "nyquist", "cycles"), TEXTS),
        _SIZE, _DATA, _SCHEDULE, _FORCE, _output("filter.yaml", "new/filter.yaml", often=0.4)), 2),
    Command("filter list", ()),
    Command("filter show", (
        _always("", FILTERS, ODD_FILTERS), _SIZE, _DATA, _SCHEDULE, _PLOT, _FORCE,
        _output("filter.yaml", "-", often=0.2)), 2),
    Command("filter fit", (
        _always("", DATA, ODD_DATA), Values("--method", ("matched", "powerlaw"), TEXTS),
        Values("-o", ("kappa=0.5",), ODD_OPTIONS), _SCHEDULE, _FORCE, _output("filter.yaml", often=0.4))),
    Command("filter compare", (
        _always("", FILTERS, ODD_FILTERS), Values("", FILTERS, ODD_FILTERS, 0.8), _SIZE, _DATA, _SCHEDULE, _PLOT, _FORCE)),
    Command("spectrum", (
        _always("", (*DATA, *FOLDERS), (*ODD_DATA, *ODD_FOLDERS)), Values("--peaks"), Values("--window", ("hann", "none"), TEXTS),
        _PLOT, _FORCE), 2),
    Command("train --dry-run", (
        Values("--config", CONFIGS, ODD_CONFIGS, 0.8), *_TRAIN, Values("--steps", ("2", "100"), WHOLE_NUMBERS),
        _output("new", often=0.5)), 3),
    Command("train", (
        _always("--config", CONFIGS, ODD_CONFIGS), *_TRAIN, _always("--steps", ("1", "2"), ("0", "-1", "x", "", "nan")),
        Values("--allow-config-change"), Values("--tensorboard", often=0.02), _output("new", "deep/new")), 1),
    Command("sample", (
        _always("", _RUNS, _ODD_RUNS), _always("-n", ("1", "3", "5"), WHOLE_NUMBERS),
        _always("--steps", ("1", "2", "3"), (*WHOLE_NUMBERS, "1001")), Values("--sampler", _SAMPLER, TEXTS, 0.4),
        Values("--spacing", ("auto", "uniform", "quadratic", "karras", "log-snr"), TEXTS), Values("--eta", ("0", "0.5"), NUMBERS, 0.05),
        Values("--churn", ("0", "3"), NUMBERS, 0.05), Values("--class", (), ("3", "3,3", *TEXTS), 0.02),
        Values("--guidance", ("1",), NUMBERS, 0.05), Values("--fill", ("zero",), ("mean", "prior", *TEXTS), 0.1),
        Values("--prior", (), ("../in/run", "../in/cut", *TEXTS), 0.02), Values("--ema", ("10000",), WHOLE_NUMBERS, 0.05),
        _SEED, Values("--batch-size", ("2", "250"), WHOLE_NUMBERS), Values("--format", ("png", "npz"), TEXTS, 0.5),
        Values("--grid", ("grid.png", "new/grid.png"), TARGETS, 0.1), Values("--filter", ("powerlaw",), ODD_FILTERS, 0.1),
        _DEVICE, _FORCE, _output("new", "deep/new")), 2),
    Command("corrupt", (
        _always("", (*FOLDERS, *ARRAYS), (*ODD_FOLDERS, *ODD_DATA)), _always("--band", BANDS, ODD_BANDS),
        _always("--strength", ("0.1", "0.5", "2"), (*NUMBERS, "0", "1e-300", "1e300")), _SEED, Values("--clip"), _RANGE, _FORCE,
        _output("new", "new", "deep/new", "new.npy", "new.npz")), 3),
    Command("omit", (
        _always("", FOLDERS, ODD_FOLDERS), _always("--band", (*BANDS, "auto"), ODD_BANDS),
        _always("--estimate", ("wiener", "notch"), TEXTS), Values("--strength", ("auto", "0.3", "inf"), (*NUMBERS, "0", "101"), 0.3),
        Values("--per-image"), Values("--draws", (), WHOLE_NUMBERS), Values("--truth", FOLDERS[:3], ODD_FOLDERS, 0.1),
        Values("--reference", DATA[1:4], ODD_DATA, 0.05), Values("--model", (), ("../in/run", "../in/cut", *TEXTS), 0.05),
        Values("--uncertainty", (), TARGETS, 0.05), Values("--figure", ("figure.png",), (*TARGETS, "x.xyz"), 0.05),
        Values("--record", ("record.json", "new2/record.json"), TARGETS, 0.1), Values("--save-model", (), TARGETS, 0.05),
        Values("--sampling-steps", ("2",), WHOLE_NUMBERS, 0.1), _SEED, _RANGE, _DEVICE, _FORCE, _output("new", "deep/new")), 3),
    Command("omit --steps 1", (
        _always("", ("../in/grey", "../in/unit", "../in/colours"), ODD_FOLDERS), _always("--band", BANDS[:6], ODD_BANDS),
        _always("--estimate", ("mean", "sample", "ode"), TEXTS), Values("--strength", ("auto", "0.3", "inf"), NUMBERS, 0.5),
        Values("--draws", ("2",), WHOLE_NUMBERS, 0.1), Values("--uncertainty", ("deviations",), TARGETS, 0.1),
        Values("--save-model", ("model",), TARGETS), _always("--sampling-steps", ("1",), WHOLE_NUMBERS), _output("new")), 0.2),
    Command("fid", (
        _always("", _ALIKE, (*DATA, *ODD_DATA, *_ODD_RUNS)),
        _always("", _ALIKE, (*DATA, "../in/statistics.npz", "../in/nan-statistics.npz", *ODD_DATA)), *_FIGURES,
        Values("--metrics", ("fid", "kid", "fid,kid", "prc"), ("isc", "fidd", "fid,", *TEXTS)), Values("--layer", (), ("32", "64", *TEXTS), 0.02),
        Values("--weights", (), TEXTS, 0.02), Values("-n", ("4", "5"), WHOLE_NUMBERS, 0.1), Values("--repeats", ("1", "2"), WHOLE_NUMBERS, 0.1),
        Values("--spectra"), Values("--steps", (), WHOLE_NUMBERS, 0.02), Values("--save-stats", ("stats.npz",), TARGETS, 0.1),
        Values("--max-fid", ("1e9", "0"), NUMBERS), Values("--max-kid", ("1e9",), NUMBERS, 0.1),
        Values("--summary-md", ("summary.md", "-"), TARGETS, 0.1), Values("--batch-size", ("1", "100"), WHOLE_NUMBERS),
        Values("--no-cache"), _DEVICE, _FORCE, _output("result.json", "new/result.json", often=0.3)), 2),
    Command("fid compare", tuple(_always("", ("../in/fid.json",), (
        "../in/half.json", "../in/other.json", "../in/array.json", "../in/deep.json", "../in/nan.json", "../in/grey", *TEXTS))
        for _ in range(2)), 0.5),
    Command("sweep --dry-run", (
        _always("--config", CONFIGS, ODD_CONFIGS), _always("--grid", (
            "filter.options.alpha=-0.1,0", "training.seed=1,2", "filter=white,powerlaw", "training.learning_rate=1e-3,2e-3"),
            ("filter.options.alpha=", "filter.options.alpha=nan", "alpha=1", "a.b=1,,2", "filter=../in/bomb.yaml,white", "training.seed=1,1",
             "filter=white,white", *TEXTS)),
        Values("--seeds", ("0", "0,1"), ("0,0", "-1", "1.5", ",", *NUMBERS)), Values("--set", SETTINGS, ODD_SETTINGS),
        Values("--dataset", ("digits", "../in/u8.npy"), ODD_DATA), Values("--metric", ("fid", "kid"), TEXTS, 0.1),
        Values("--features", ("pixels", "spectrum"), TEXTS), Values("--reference", ("digits:test",), ODD_DATA, 0.1),
        Values("-n", ("4",), WHOLE_NUMBERS), Values("--halving", (), ("2", *WHOLE_NUMBERS), 0.1), Values("--jobs", ("1",), WHOLE_NUMBERS),
        Values("--storage", (), ("sqlite:///x.db", "postgresql://no/such", "x", *TEXTS), 0.1), _DEVICE, _output("new", often=0.8)), 1.5),
    Command("report", (
        _always("", _RUNS, _ODD_RUNS), _always("-n", ("3", "4"), WHOLE_NUMBERS), _DEVICE, _FORCE, _output("report.html", "new/report.html")), 0.3),
    Command("data list", (), 0.3),
    Command("data prepare", (
        _always("", (*DATA, *FOLDERS), (*ODD_DATA, *ODD_FOLDERS)), Values("--size", ("8", "9"), (*WHOLE_NUMBERS, "1")),
        Values("--mode", ("rgb", "grey"), TEXTS), Values("--pixels"), _FORCE, _output("new.npy", "new.npz", "new", "deep/new.npy")), 2),
    Command("data info", (_always("", (*DATA, *FOLDERS), (*ODD_DATA, *ODD_FOLDERS)),), 2),
    Command("plugins list", (), 0.3),
    Command("plugins check", (_always("", ("white", "powerlaw", "npy"), TEXTS),), 0.3),
    Command("config show", (
        Values("--config", CONFIGS, ODD_CONFIGS, 0.5), *_CONFIG, Values("--list", often=0.1))),
    Command("config validate", (_always("", ("../in/tiny.yaml", "../in/filter.yaml"), (*ODD_CONFIGS, *ODD_FILTERS)),)),
    Command("config schema", (Values("", ("run", "filter"), TEXTS, 0.7),), 0.5),
    Command("doctor", (Values("--numerics", often=0.005), _DEVICE), 0.3),
)  # fmt: skip
COMMON = ("--json", "--quiet", "--verbose", "-h")


def draw(random: Random) -> Case:
    """Draw a command line: half of them valid, the rest with one or two hostile values or a fault of another kind."""
    (command,) = random.choices(COMMANDS, [command.often for command in COMMANDS])
    chosen = [values for values in command.values if random.random() < values.often]
    hostile = random.choice((0, 0, 0, 1, 2))
    able = [values for values in command.values if values.hostile]
    bad = random.sample(able, min(hostile, len(able)))
    chosen += [values for values in bad if values not in chosen]
    words, given, is_valid = [], {}, True
    for values in chosen:
        if not (values.valid or values.hostile):
            words.append(values.flag)
            given[values.flag] = ""
            continue
        odd = any(values is other for other in bad) or not values.valid
        value = random.choice(values.hostile if odd else values.valid)
        is_valid &= not odd
        words += [value] if not values.flag else [values.flag, value]
        given[values.flag or f"argument {sum(not name.startswith('-') for name in given)}"] = value
    if hostile and random.random() < 0.1:
        _spoil(words, random)
        is_valid = False
    common = random.choices(("", *COMMON), (20, 20, 4, 4, 1))[0].split()
    whole = (*command.words.split(), *common, *words)
    return Case(command.words, whole, given, random.choice(STDIN), is_valid)


def _spoil(words: list[str], random: Random) -> None:
    kind = random.randrange(3 if "--output" in words else 4)
    if kind == 0:
        words.append(random.choice(words or ["surplus"]))
    elif kind == 1:
        words.insert(random.randint(0, len(words)), random.choice(("--nonsense", "-x", "--", "surplus", "-")))
    elif kind == 2 and words:
        words.remove(random.choice([word for word in words if word != "--output"] or words))
    else:
        random.shuffle(words)
