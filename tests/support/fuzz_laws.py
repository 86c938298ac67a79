"""The laws of the fuzz: what must hold of every command line, and of what it wrote."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from support.fuzz_commands import WRITTEN, Case

from sagd_cli.data.images import read_image
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid


@dataclass(frozen=True)
class Ran:
    """What a command line did: exit code, streams, and the files of the working folder before and after."""

    code: int
    out: str
    err: str
    before: dict[str, tuple[int, ...]]
    after: dict[str, tuple[int, ...]]


Run = Callable[..., Ran]  # words of a command line, stdin= -> what it did, in the same folder


def strict_json(text: str) -> Any:
    """Read one JSON document; raise ValueError on NaN, infinity and anything else."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number of JSON")

    return json.loads(text, parse_constant=refuse)


def broken_by_any(case: Case, ran: Ran) -> list[str]:
    """Return the laws of all command lines that this one breaks."""
    words = case.words
    helps = "-h" in words or "--help" in words
    machine = "--json" in words
    broken = []
    if ran.code not in (0, 1, 2, 3):
        broken.append(f"exit code {ran.code}")
    for word in ("Traceback", "internal error", "Warning: ", "\x1b"):
        if word in ran.err:
            broken.append(f"{word!r} on standard error")
    if ran.code:
        broken += _broken_by_a_failure(ran, machine)
    chatter = [line for line in ran.err.splitlines() if not line.startswith("warning:")]
    if (
        ran.code == 0 and chatter and "--quiet" in words and "--plugin" not in words
    ):  # which may say what it likes
        broken.append("--quiet is not quiet")
    if machine and not helps and (ran.code == 0 or ran.out):
        try:
            strict_json(ran.out)
        except ValueError as error:
            broken.append(f"standard output is no JSON: {error}")
    return broken + _broken_by_changes(case, ran)


def _broken_by_changes(case: Case, ran: Ran) -> list[str]:
    """Return the laws that are broken by the files that were made, changed and removed."""
    broken = []
    new = {name for name, status in ran.after.items() if ran.before.get(name) != status}
    gone = ran.before.keys() - ran.after.keys()
    if ran.code == 2 and (new or gone):
        broken.append(f"refused, but changed {sorted(new | gone)}")
    words = case.words
    appended = {name for flag, name in pairwise(words) if flag == "--summary-md"}
    changed = (new & ran.before.keys()) - appended
    if gone or (changed and "--force" not in words):
        broken.append(f"changed without --force {sorted(gone | changed)}")
    if left := [name for name in new if re.search(r"(^|/)\.(sagd|tmp)-", name)]:
        broken.append(f"left {left}")
    dry = "--dry-run" in words
    targets = [Path(value) for flag, value in case.given.items() if flag in WRITTEN and not dry]
    stray = [name for name in new if not any(map(partial(_leads_to, Path(name)), targets))]
    if case.given and stray:
        broken.append(f"wrote {stray}, which no option names")
    return broken + _broken_files(new - appended)


def _leads_to(path: Path, target: Path) -> bool:
    return path.is_relative_to(target) or target.is_relative_to(path)


def _broken_by_a_failure(ran: Ran, machine: bool) -> list[str]:
    lines = ran.err.splitlines()
    if not machine:
        errors = [line for line in lines if line.startswith("error:")]
        broken = [] if len(errors) == 1 else [f"{len(errors)} error sentences"]
        if ran.code == 2 and ran.out:
            broken.append("refused, but with something on standard output")
        return broken
    objects = [line for line in lines if line.startswith('{"error"')]
    if len(objects) != 1 or {*strict_json(objects[0])["error"]} != {"code", "message", "hint"}:
        return [f"{len(objects)} error objects"]
    if ran.code == 2 and ran.out:
        return ["refused, but with something on standard output"]
    return []


READERS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: strict_json(path.read_text()),
    ".yaml": lambda path: yaml.safe_load(path.read_text()),
    ".npy": np.load,
    ".npz": lambda path: [np.load(path)[name] for name in np.load(path).files],
    ".png": read_image,
    ".tiff": read_image,
    ".tif": read_image,
}


def _broken_files(names: set[str]) -> list[str]:
    broken = []
    for name in sorted(names):
        read = READERS.get(Path(name).suffix)
        if read is None or not Path(name).is_file():
            continue
        try:
            read(Path(name))
        except Exception as error:
            broken.append(f"wrote {name}, which cannot be read: {error}")
    return broken


def broken_by_result(case: Case, ran: Ran, run: Run) -> list[str]:
    """Return the laws of its sub-command that a command line breaks by what it wrote."""
    law = LAWS.get(case.command)
    # With exit code 1 a part of the images may be done.
    if law is None or not case.given or "-h" in case.words or ran.code > (law in (_corrupt, _omit)):
        return []
    return [text for text in law(case, ran, run) if text]


def _json_of(case: Case, ran: Ran) -> dict[str, Any]:
    return strict_json(ran.out) if "--json" in case.words and ran.out else {}


def _spectra(before: np.ndarray, after: np.ndarray, band: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the half spectra of two images (C, H, W), orthonormal, and the mask of the band."""
    mask = Band.parse(band).mask(FrequencyGrid(before.shape[1:]))
    return *(np.fft.rfft2(x.astype(np.float64), norm="ortho") for x in (before, after)), mask  # type: ignore[return-value]


def _rounding(pixels: np.ndarray, ends: list[float]) -> float:
    """Return the most that a coefficient can change when float32 pixels are mapped to [-1, 1] from `ends`, and back.

    A pixel is rounded some sixteen times, each time by 2^-24 of the largest number.
    """
    largest = max(np.abs(pixels).max(), *np.abs(ends))
    return float(16 * 2**-24 * largest * np.sqrt(pixels.size))


def _corrupt(case: Case, ran: Ran, run: Run) -> list[str]:
    """Outside the band a float image is the source's, in the units of [0, 1] where it was of integers."""
    found = _json_of(case, ran)
    if "files" not in found:
        return _info_agrees(case, ran, run)
    if "--clip" in case.given or "--band" not in case.given:
        return []
    return [text for record in found["files"] for text in _corrupted(record, case)]


def _corrupted(record: dict[str, Any], case: Case) -> list[str]:
    before, after = (read_image(Path(record[key])).pixels for key in ("input", "output"))
    if before.shape != after.shape:
        return [f"the shape {before.shape} became {after.shape}"]
    x, y, inside = _spectra(before, after, case.given["--band"])
    outside = ~inside
    outside[0, 0] = False  # the mean moves with the unit
    if not np.any(x[:, outside]):
        return []
    unit = np.vdot(x[:, outside], y[:, outside]) / np.vdot(x[:, outside], x[:, outside])
    units = [1.0, 1 / 255, 1 / 65535] if before.dtype.kind == "u" else [1.0]
    left = np.abs(y - unit * x)[:, outside].max()
    bound = _rounding(after, [abs(unit) * end for end in record["range"]])
    return [
        f"outside the band {left:.1e} changed, beyond rounding" if left > bound else "",
        f"in units of {unit:.6g}" if min(abs(unit / u - 1) for u in units) > 1e-4 else "",
    ]


def _omit(case: Case, ran: Ran, run: Run) -> list[str]:
    """Outside the band nothing changes but by rounding, where nothing was clipped."""
    found = _json_of(case, ran)
    broken = []
    for record in found.get("files", []):
        before, after = (read_image(Path(record[key])).pixels for key in ("input", "output"))
        if before.shape != after.shape or before.dtype != after.dtype:
            broken.append(f"{before.dtype}{before.shape} became {after.dtype}{after.shape}")
            continue
        x, y, inside = _spectra(before, after, found["band"])
        change = np.abs(y - x)[:, ~inside]
        if before.dtype.kind == "f":
            left, bound = change.max(initial=0), _rounding(before, record["range"])
            broken.append(f"outside the band {left:.1e} changed, beyond rounding" if left > bound else "")
        elif after.min() > 0 and after.max() < np.iinfo(after.dtype).max:
            # Each pixel is rounded by a half at most, and the half spectrum holds no more than the whole.
            rounding = 0.5 * np.sqrt(before.size) * 1.01
            left = float(np.sqrt((change**2).sum()))
            broken.append(f"outside the band {left:.1f} changed, beyond rounding" if left > rounding else "")
    return broken


def _sample(case: Case, ran: Ran, run: Run) -> list[str]:
    """As many images as were asked for, finite, and the same ones another time."""
    folder, count = Path(case.given["--output"]), int(case.given["-n"])
    first = _samples(folder)
    again = run(*_with_output(case, "again"))
    second = _samples(Path("again"))
    return [
        "" if first.shape == (count, 1, 8, 8) and np.isfinite(first).all() else f"samples {first.shape}",
        f"the second time exit code {again.code}" if again.code else "",
        "" if np.array_equal(first, second) else "other samples of the same seed",
    ]


def _samples(folder: Path) -> np.ndarray:
    if (folder / "samples.npz").exists():
        return np.asarray(np.load(folder / "samples.npz")["images"])
    return np.stack([read_image(path).pixels for path in sorted(folder.glob("[0-9]*"))])


def _with_output(case: Case, target: str) -> list[str]:
    words = list(case.words)
    words[words.index("--output") + 1] = target
    if "--grid" in words:
        words[words.index("--grid") + 1] = f"{target}.png"
    return words


def _train(case: Case, ran: Ran, run: Run) -> list[str]:
    """The same command again does nothing."""
    before = _weights(Path(case.given["--output"]))
    again = run(*case.words)
    return [
        f"the second time exit code {again.code}: {again.err}" if again.code else "",
        "" if _weights(Path(case.given["--output"])) == before else "the second time changed checkpoints",
        "" if before else "no checkpoint",
    ]


def _weights(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.rglob("*.safetensors")}


def _fid(case: Case, ran: Ran, run: Run) -> list[str]:
    """A set is at no distance from itself, and no distance is negative."""
    distance = _json_of(case, ran).get("fd")
    if distance is None:
        return []
    same = case.given["argument 0"] == case.given["argument 1"]
    bound = 1e-6 if same and "-n" not in case.given and "--repeats" not in case.given else np.inf
    return [] if 0 <= distance <= bound else [f"a distance of {distance}"]


def _filter(case: Case, ran: Ran, run: Run) -> list[str]:
    """What is designed or fitted can be read and shown."""
    if "--output" in case.given or "--json" in case.words:
        return []
    shown = run("filter", "show", "-", "--json", stdin=ran.out)
    if shown.code:
        return [f"filter show - exits {shown.code}: {shown.err}"]
    written, found = yaml.safe_load(ran.out), strict_json(shown.out)
    same = all(found["options"].get(key) == value for key, value in written.get("options", {}).items())
    return [] if same and found["type"] == written["type"] else ["filter show - shows another filter"]


def _info_agrees(case: Case, ran: Ran, run: Run) -> list[str]:
    """What is prepared has the count and shape that were said, and `data info` says the same."""
    found = _json_of(case, ran)
    if not found:
        return []
    info = run("data", "info", case.given["--output"], "--json")
    if info.code:
        return [f"data info exits {info.code}: {info.err}"]
    told = strict_json(info.out)
    same = [told[key] == found[key] for key in ("count", "shape")]
    return [] if all(same) else [f"data info says {told}, prepare {found}"]


LAWS: dict[str, Callable[[Case, Ran, Run], list[str]]] = {
    "corrupt": _corrupt,
    "omit": _omit,
    "omit --steps 1": _omit,
    "sample": _sample,
    "train": _train,
    "fid": _fid,
    "filter design": _filter,
    "filter fit": _filter,
    "data prepare": _info_agrees,
}
