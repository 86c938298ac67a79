"""The command lines of the fuzz: for each argument and option of a sub-command, valid values and hostile ones.

Paths are as seen from a folder beside `in/`, the inputs. Outputs go into that folder, which holds some `old` ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from support.fuzz_inputs import NAMES


def _words(text: str, *before: str) -> tuple[str, ...]:
    """Return the words of `text`, each with what is `before`."""
    return tuple("".join((*before, word)) for word in text.split())


TEXTS = (
    *("", " ", "a\tb", "a\nb", "\x1b[31mred", "é☃\u202e", "x" * 5000, "{a: 1}"),
    *_words("""
    . - -- ~ * null true %s {x} [1 = =1 , : + [red]x 0x10 2020-01-01 no/such/file no/such/file.npy ../in/text.txt
    ../in/loop ../in/loop/x.png ../in /proc/self/mem /dev/null"""),
)
NUMBERS = ("", " 1", *_words("nan inf -inf -1 -0 1e999 1,5 ½ ٣ 1_0 0x10 x"), "1" + 30 * "0")
WHOLE_NUMBERS = (*NUMBERS, *_words("0 1.5 1e3 9223372036854775808 18446744073709551616"))
# Names outside the folder of outputs are not among them: they would be written.
TARGETS = (
    "",
    " ",
    "a\nb",
    "\x1b[31m",
    "x" * 300,
    *_words(". - old old.png old.npy old.png/x no/such/dir/x /proc/x"),
)

GREY = _words("grey unit floats mixed/g8.png mixed/g16.png large.png", "../in/")
KINDS = "ga8.png rgba8.png rgb16.png f32.tiff g12in16.tif hounsfield.tif b8.bmp p8.pgm photo.jpg web.webp"
FOLDERS = (
    *GREY,
    *_words("colours mixed flat.png", "../in/"),
    *_words(KINDS, "../in/mixed/"),
    *(f"../in/names/{name}.png" for name in NAMES),
)
ODD_FOLDERS = (
    *_words(
        "hostile names empty nopictures row.png column.tif dot.png classes run u8.npy text.txt", "../in/"
    ),
    *_words("loop.png pipe.png empty.png folder.png nodata.tif dangling.png cmyk.jpg", "../in/hostile/"),
    *("../in/mixed/palette.gif", "../in/mixed/colours.ppm", "old", *TEXTS),
)
ARRAYS = _words("u8.npy f32.npy rgb.npy labelled.npz", "../in/")
DATA = ("digits:test", *_words("grey colours classes unit floats", "../in/"), *ARRAYS)
ALIKE = ("digits:test", *_words("u8.npy classes labelled.npz", "../in/"))
ODD_ARRAYS = _words(
    "signals f64 nhwc nhw nan none one scalar bool complex text big-endian u16 huge object", "../in/"
)
ODD_DATA = (
    *(f"{name}.npy" for name in (*ODD_ARRAYS, *_words("truncated boast empty", "../in/"))),
    *_words(
        "unnamed.npz short.npz statistics.npz text.npz mixed hostile names empty flat.png dot.png", "../in/"
    ),
    *_words("""
    digits:val digits:x=1 digits:,, digits:test,train mnist:root=/no cifar10 patches folder npy folder:path=[1]
    npy:path=../in/u8.npy folder:path=../in/grey patches:path=../in/large.png,size=8
    patches:path=../in/grey,size=1 ../in/f32.npy,range=0:1 ../in/nhwc.npy,layout=nhwc"""),
    *TEXTS,
)
RINGS = _words("low mid high 0.5:1 0:0.3 0.3:0.6")
BANDS = (
    *RINGS,
    *_words("notch:0.25,0.1,0.05 stripe:horizontal stripe:vertical,0.1 0.3:0.5+notch:0.1,0.4,0.05"),
)
ODD_BANDS = (
    *_words("""
    auto rings 0.5:0.5 1:0 nan:1 0:1e999 0:2 -1:0 0.5:1:2 0.001:0.002 ring:0:1 low+ + notch: notch:0,0,0 notch:0.1,0.1
    notch:0.6,0,0.1 notch:0.1,0.1,0.1,0.1 stripe: stripe:diagonal stripe:horizontal,9"""),
    "low" + 2000 * "+low",
    *TEXTS,
)
NOISES = _words("""
    white:level=0.1 high:level=0.5+powerlaw:alpha=-1,level=0.1 ../in/filter.yaml low stripe:axis=1,invert=true
    from:../in/colours from:../in/colours:level=0.5+white:level=1e-3 (low+0.1:0.4):level=2""")
ODD_NOISES = (
    *_words("""
    from: from:- from:../in/none - white:level=inf high:level=nan+white white:level=1:level=2 white: +white ({ {} )
    {:level=1
    high:level=-1 white:level=1e-300 low:level=1e300 dark.tif powerlaw:level=1,alpha=x 0.001:0.002:level=1"""),
    "low:level=1" + 300 * "+low:level=1",
    *ODD_BANDS,
)
FILTERS = _words("""
    white powerlaw powerlaw:alpha=-0.3 bandpass:low=0.2,high=0.6,floor=0.1 radial:knots=[[0,1],[1,2]] twoband notch
    stripe exponential learned ../in/filter.yaml ../in/white.yaml""")
ODD_FILTERS = (
    *_words("""
    - ../in/run ../in/cut matched powerlaw:alpha=nan powerlaw:alpha=1e308 bandpass:low=1,high=0 bandpass:low white:x=1
    radial:knots=[] radial:knots=[[0,1],[0,2]] exponential:beta=1e9 lowpass:cutoff=0 notch:frequencies=x white:, :
    learned:knots=-1"""),
    *(
        f"{name}.yaml"
        for name in _words("bomb nan negative zero typed no-type list empty deep tag", "../in/")
    ),
    *(f"{name}.yaml" for name in _words("date omitting binary tiny", "../in/")),
    *TEXTS,
)
CONFIGS = ("../in/tiny.yaml",)
ODD_CONFIGS = (
    *(f"{name}.yaml" for name in _words("huge wrong null bomb list deep date binary filter", "../in/")),
    *("-", *_words("other.json run grey/0.png", "../in/"), *TEXTS),
)
SETTINGS = _words("""
    training.seed=3 training.batch_size=4 schedule=cosine training.flips=true backbone.options.channels=[8,16]
    prediction=v loss=min-snr training.accumulate=2 blind=false""")
ODD_SETTINGS = (
    *_words("""
    training.seed=-1 training.seed=1e3 training.batch_size=1e999 training=1 training.images=010 training.images=true
    training.seed=1:30 trainin.seed=1 training.learning_rate=nan backbone.options.channels=[] a.b.c.d.e=1 .=1
    backbone.options.channels=[-8] backbone.options.channels=[7] backbone=null filter.type=[x] filter.options.alpha=x
    filter.omit=low+ training..seed=1 schedule=2020-01-01 sampling.steps=0 restoration.bands=[]
    restoration.bands=[0.5:1] training.ema_half_life_images=[1,1]"""),
    *("training.batch_size=" + 30 * "9", "a" * 3000 + "=1", *TEXTS),
)
GRIDS = _words("""
    filter.options.alpha=-0.1,0 filter=white,powerlaw training.learning_rate=1e-3,2e-3""")
ODD_GRIDS = (
    *_words("""
    filter.options.alpha= filter.options.alpha=nan alpha=1 a.b=1,,2 filter=../in/bomb.yaml,white training.seed=1,2
    filter=white,white"""),
    *TEXTS,
)
SIZES = ("8", "16x12", "8X8")
ODD_SIZES = (*_words("0 8x x8 -8 1x1 2x1 8x8x8x8 999999999x999999999 ٣ ½"), *TEXTS)
OPTIONS = _words("alpha=-0.2 delta=0.1 low=0.2 floor=0.1 kappa=0.5")
ODD_OPTIONS = (
    *_words("alpha=nan alpha low=x low=-1 knots=[[0,1]] alpha=1e308 alpha=true alpha=-1e308"),
    *TEXTS,
)
RUNS = ("../in/run",)
ODD_RUNS = (*_words("cut misconfigured no-checkpoint grey empty", "../in/"), "old", *TEXTS)
RESULTS = _words("half.json other.json array.json deep.json nan.json grey", "../in/")
SAMPLERS, SPACINGS = (
    _words("dpmpp dpmpp-sde unipc ddim ddpm heun"),
    _words("auto uniform quadratic karras log-snr"),
)
STDIN = (
    *("", "type: white\n", "type: bandpass\noptions: {low: 0.3}\n", "training: {images: 8}\n", "\0"),
    *("{" * 3000, "x" * 2_000_000, None),
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
    """A sub-command; it is drawn `often` times in a round of all."""

    words: str
    values: Sequence[Values]
    often: int = 1


@dataclass(frozen=True)
class Case:
    """One command line. `given` are the values by name, where the words are these and no others; else it is empty.

    `stdin` is None where standard input is closed.
    """

    command: str
    words: tuple[str, ...]
    given: dict[str, str] = field(default_factory=dict)
    stdin: str | None = None


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
_TRAIN = (
    Values(
        "--dataset", ("digits", "../in/u8.npy", "../in/f32.npy", "../in/grey", "../in/classes"), ODD_DATA, 0.6
    ),
    Values("--size", ("8",), ("0", "1", "-1", *NUMBERS, "100000"), 0.1),
    Values("--backbone", ("unet", "dit"), TEXTS, 0.05),
    Values("--filter", FILTERS, ODD_FILTERS, 0.4),
    Values("--omit-band", RINGS, ODD_BANDS, 0.15),
    Values("--blind"),
    Values("--class-conditional", often=0.1),
    Values("--restore", ("rings", *RINGS), ODD_BANDS, 0.1),
    _SCHEDULE,
    Values("--prediction", ("eps", "x0", "v", "edm", "edm-spectral"), TEXTS),
    Values("--loss", ("plain", "whitened", "min-snr"), TEXTS, 0.1),
    Values("--batch-size", ("4", "8"), WHOLE_NUMBERS),
    Values("--lr", ("1e-3", "0.01"), (*NUMBERS, "1e30", "0"), 0.2),
    _SEED,
    Values("--precision", ("auto", "fp32", "bf16"), TEXTS, 0.1),
    _DEVICE,
    *_CONFIG,
)

COMMANDS = (
    Command(
        "filter design",
        (
            _always(
                "--type",
                ("white", "powerlaw", "bandpass", "lowpass", "exponential", "twoband"),
                ("matched", *TEXTS),
            ),
            Values("-o", OPTIONS, ODD_OPTIONS, 0.1),
            Values("--low", ("0.1", "0.25"), NUMBERS, 0.05),
            Values("--high", ("0.6", "0.75"), NUMBERS, 0.05),
            Values("--alpha", ("-0.1",), NUMBERS, 0.05),
            Values("--cutoff", ("0.5",), NUMBERS, 0.05),
            Values("--normalize", ("power", "none", "peak"), TEXTS),
            Values("--units", ("rho", "nyquist", "cycles"), TEXTS),
            _SIZE,
            _DATA,
            _SCHEDULE,
            _FORCE,
            _output("filter.yaml", "new/filter.yaml", often=0.4),
        ),
        2,
    ),
    Command("filter list", ()),
    *(
        Command(f"--plugin ../in/{name}.py filter list", ())
        for name in ("prints", "raises", "exits", "nowhere")
    ),
    Command("--no-plugins data list", ()),
    Command(
        "filter show",
        (
            _always("", FILTERS, ODD_FILTERS),
            _SIZE,
            _DATA,
            _SCHEDULE,
            _PLOT,
            _FORCE,
            _output("filter.yaml", "-", often=0.2),
        ),
        2,
    ),
    Command(
        "filter fit",
        (
            _always("", DATA, ODD_DATA),
            Values("--method", ("matched", "powerlaw"), TEXTS),
            Values("-o", ("kappa=0.5",), ODD_OPTIONS),
            _SCHEDULE,
            _FORCE,
            _output("filter.yaml", often=0.4),
        ),
    ),
    Command(
        "filter compare",
        (
            _always("", FILTERS, ODD_FILTERS),
            Values("", FILTERS, ODD_FILTERS, 0.8),
            _SIZE,
            _DATA,
            _SCHEDULE,
            _PLOT,
            _FORCE,
        ),
    ),
    Command(
        "spectrum",
        (
            _always("", (*DATA, *FOLDERS), (*ODD_DATA, *ODD_FOLDERS)),
            Values("--peaks"),
            Values("--window", ("hann", "none"), TEXTS),
            _PLOT,
            _FORCE,
        ),
        2,
    ),
    Command(
        "train --dry-run",
        (
            Values("--config", CONFIGS, ODD_CONFIGS, 0.8),
            *_TRAIN,
            Values("--steps", ("2", "100"), WHOLE_NUMBERS),
            _output("new", often=0.5),
        ),
        3,
    ),
    Command(
        "train",
        (
            _always("--config", CONFIGS, ODD_CONFIGS),
            *_TRAIN,
            _always("--steps", ("1", "2"), ("0", "-1", "x", "", "nan")),
            Values("--allow-config-change"),
            Values("--track", ("tensorboard",), ("nothing", ""), often=0.02),
            _output("new", "deep/new"),
        ),
        1,
    ),
    Command(
        "sample",
        (
            _always("", RUNS, ODD_RUNS),
            _always("-n", ("1", "3", "5"), WHOLE_NUMBERS),
            _always("--steps", ("1", "2", "3"), (*WHOLE_NUMBERS, "1001")),
            Values("--sampler", SAMPLERS, TEXTS, 0.4),
            Values("--spacing", SPACINGS, TEXTS),
            Values("--eta", ("0", "0.5"), NUMBERS, 0.05),
            Values("--churn", ("0", "3"), NUMBERS, 0.05),
            Values("--class", (), ("3", "3,3", *TEXTS), 0.01),
            Values("--guidance", ("1",), NUMBERS, 0.05),
            Values("--fill", ("zero",), ("mean", "prior", *TEXTS), 0.1),
            Values("--prior", (), ("../in/run", "../in/cut", *TEXTS), 0.01),
            Values("--ema", ("10000",), WHOLE_NUMBERS, 0.05),
            _SEED,
            Values("--batch-size", ("2", "250"), WHOLE_NUMBERS),
            Values("--format", ("png", "tiff", "npz"), TEXTS, 0.5),
            Values("--grid", ("grid.png", "new/grid.png"), TARGETS, 0.1),
            Values("--filter", ("powerlaw",), ODD_FILTERS, 0.1),
            _DEVICE,
            _FORCE,
            _output("new", "deep/new"),
        ),
        2,
    ),
    Command(
        "corrupt",
        (
            _always("", (*FOLDERS, *ARRAYS), (*ODD_FOLDERS, *ODD_DATA)),
            _always("--band", BANDS, ODD_BANDS),
            _always("--strength", ("0.1", "0.5", "2"), (*NUMBERS, "0", "1e-300", "1e300")),
            _SEED,
            Values("--clip"),
            _RANGE,
            _FORCE,
            _output("new", "new", "deep/new", "new.npy", "new.npz"),
        ),
        3,
    ),
    Command(
        "corrupt",
        (
            _always("", (*FOLDERS, *ARRAYS), (*ODD_FOLDERS, *ODD_DATA)),
            _always("--noise", NOISES, ODD_NOISES),
            Values("--strength", ("0.1", "2"), (*NUMBERS, "0"), 0.5),
            Values("--clip"),
            _RANGE,
            _output("new", "deep/new", "new.npy"),
        ),
        1,
    ),
    Command(
        "omit",
        (
            _always("", FOLDERS, ODD_FOLDERS),
            _always("--band", (*BANDS, "auto"), ODD_BANDS),
            _always("--estimate", ("wiener", "notch"), TEXTS),
            Values("--strength", ("auto", "0.3", "inf"), (*NUMBERS, "0", "101"), 0.3),
            Values("--per-image", often=0.05),
            Values("--draws", (), WHOLE_NUMBERS, 0.01),
            Values("--truth", FOLDERS[:3], ODD_FOLDERS, 0.1),
            Values("--reference", DATA[1:4], ODD_DATA, 0.05),
            Values("--model", (), ("../in/run", "../in/cut", *TEXTS), 0.01),
            Values("--uncertainty", (), TARGETS, 0.01),
            Values("--figure", ("figure.png",), (*TARGETS, "x.xyz"), 0.05),
            Values("--record", ("record.json", "new2/record.json"), TARGETS, 0.1),
            Values("--save-model", (), TARGETS, 0.01),
            Values("--sampling-steps", ("2",), WHOLE_NUMBERS, 0.1),
            _SEED,
            _RANGE,
            _DEVICE,
            _FORCE,
            _output("new", "deep/new"),
        ),
        3,
    ),
    Command(
        "omit --steps 1",
        (
            _always("", ("../in/grey", "../in/unit", "../in/colours"), ODD_FOLDERS),
            _always("--band", RINGS, ODD_BANDS),
            _always("--strength", ("0.3", "1", "inf"), NUMBERS),
            _always("--estimate", ("mean", "sample", "ode"), TEXTS),
            _always("--reference", ("../in/names/%s.png",), ODD_DATA),
            Values("--draws", ("2",), WHOLE_NUMBERS, 0.1),
            Values("--uncertainty", ("deviations",), TARGETS, 0.1),
            Values("--save-model", ("model",), TARGETS),
            _always("--sampling-steps", ("1",), WHOLE_NUMBERS),
            _output("new"),
        ),
    ),
    Command(
        "fid",
        (
            _always("", ALIKE, (*DATA, *ODD_DATA, *ODD_RUNS)),
            _always("", ALIKE, (*DATA, "../in/statistics.npz", "../in/nan-statistics.npz", *ODD_DATA)),
            *_FIGURES,
            Values("--metrics", ("fid", "kid", "fid,kid", "prc"), ("isc", "fidd", "fid,", *TEXTS)),
            Values("--layer", (), ("32", "64", *TEXTS), 0.01),
            Values("--weights", (), TEXTS, 0.01),
            Values("-n", ("4", "5"), WHOLE_NUMBERS, 0.1),
            Values("--repeats", ("1", "2"), WHOLE_NUMBERS, 0.1),
            Values("--spectra"),
            Values("--steps", (), WHOLE_NUMBERS, 0.01),
            Values("--save-stats", ("stats.npz",), TARGETS, 0.1),
            Values("--max-fid", ("1e9", "0"), NUMBERS),
            Values("--max-kid", ("1e9",), NUMBERS, 0.1),
            Values("--summary-md", ("summary.md", "-"), TARGETS, 0.1),
            Values("--batch-size", ("1", "100"), WHOLE_NUMBERS),
            Values("--no-cache"),
            _DEVICE,
            _FORCE,
            _output("result.json", "new/result.json", often=0.3),
        ),
        2,
    ),
    Command("fid compare", tuple(_always("", ("../in/fid.json",), (*RESULTS, *TEXTS)) for _ in range(2))),
    Command(
        "sweep --dry-run",
        (
            _always("--config", CONFIGS, ODD_CONFIGS),
            _always("--grid", GRIDS, ODD_GRIDS),
            Values("--seeds", ("0", "0,1"), ("0,0", "-1", "1.5", ",", *NUMBERS)),
            Values("--set", SETTINGS, ODD_SETTINGS),
            Values("--dataset", ("digits", "../in/u8.npy"), ODD_DATA),
            Values("--metric", ("fid", "kid"), TEXTS, 0.1),
            Values("--features", ("pixels", "spectrum"), TEXTS),
            Values("--reference", ("digits:test",), ODD_DATA, 0.1),
            Values("-n", ("4",), WHOLE_NUMBERS),
            Values("--halving", (), ("2", *WHOLE_NUMBERS), 0.01),
            Values("--jobs", ("1",), WHOLE_NUMBERS),
            Values("--storage", (), ("sqlite:///x.db", "postgresql://no/such", "x", *TEXTS), 0.01),
            _DEVICE,
            _output("new", often=0.8),
        ),
    ),
    Command(
        "report",
        (
            _always("", RUNS, ODD_RUNS),
            _always("-n", ("3", "4"), WHOLE_NUMBERS),
            _DEVICE,
            _FORCE,
            _output("report.html", "new/report.html"),
        ),
    ),
    Command("data list", ()),
    Command(
        "data prepare",
        (
            _always("", (*DATA, *FOLDERS), (*ODD_DATA, *ODD_FOLDERS)),
            Values("--size", ("8", "9"), (*WHOLE_NUMBERS, "1")),
            Values("--mode", ("rgb", "grey"), TEXTS),
            Values("--pixels"),
            _FORCE,
            _output("new.npy", "new.npz", "new", "deep/new.npy"),
        ),
        2,
    ),
    Command("data info", (_always("", (*DATA, *FOLDERS), (*ODD_DATA, *ODD_FOLDERS)),), 2),
    Command("plugins list", ()),
    Command("plugins check", (_always("", ("white", "powerlaw", "npy"), TEXTS),)),
    Command(
        "config show", (Values("--config", CONFIGS, ODD_CONFIGS, 0.5), *_CONFIG, Values("--list", often=0.1))
    ),
    Command(
        "config validate",
        (_always("", ("../in/tiny.yaml", "../in/filter.yaml"), (*ODD_CONFIGS, *ODD_FILTERS)),),
    ),
    Command("config schema", (Values("", ("run", "filter"), TEXTS, 0.7),)),
    Command("doctor", (Values("--numerics", often=0.005), _DEVICE)),
)
TURNS = [command for turn in range(3) for command in COMMANDS if command.often > turn]
WRITTEN = frozenset(
    _words("""
    --output --plot --figure --record --save-stats --summary-md --grid --uncertainty --save-model""")
)
COMMON = ("--json", "--quiet", "--verbose", "-h")


def draw(seed: int, number: int) -> Case:
    """Draw a command line, a function of both numbers; most of its values are valid.

    Less than half of them have one or two hostile values, and some a fault of another kind. Sub-commands take turns.
    """
    random = Random(f"{seed}-{number}")
    command = TURNS[number % len(TURNS)]
    hostile = random.choice((0, 0, 0, 1, 2))
    able = [values for values in command.values if values.hostile]
    odd = random.sample(able, min(hostile, len(able)))
    words: list[str] = []
    given: dict[str, str] = {}
    for values in command.values:
        is_odd = any(values is other for other in odd)
        if not is_odd and random.random() >= values.often:
            continue
        choices = values.hostile if is_odd or not values.valid else values.valid
        value = [random.choice(choices)] if choices else []
        words += [values.flag, *value] if values.flag else value
        name = values.flag or f"argument {sum(name.startswith('argument') for name in given)}"
        given[name] = " ".join(value)
    if hostile and random.random() < 0.2:
        _spoil(words, given, random)
        given = {}
    common = random.choices(("", *COMMON), (20, 40, 4, 4, 1))[0].split()
    return Case(command.words, (*command.words.split(), *common, *words), given, random.choice(STDIN))


def _spoil(words: list[str], given: dict[str, str], random: Random) -> None:
    """Repeat, add or take away a word, or have the command write over what it reads."""
    kind = random.randrange(4)
    if kind == 0:
        words.append(random.choice(words or ["surplus"]))
    elif kind == 1:
        words.insert(random.randint(0, len(words)), random.choice(("--nonsense", "-x", "--", "surplus", "-")))
    elif kind == 2 and words:
        # Without --output a command may write beside its inputs, as it should.
        words.remove(random.choice([word for word in words if word != "--output"] or ["--output"]))
    elif "argument 0" in given and given.keys() & WRITTEN:
        flag = random.choice(sorted(given.keys() & WRITTEN))
        words[words.index(flag) + 1] = given["argument 0"]
        words.append("--force")
