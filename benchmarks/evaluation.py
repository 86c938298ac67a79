"""`sagd fid` beside torch-fidelity: the same figures, images a second, the Fréchet term, memory over many images.

python benchmarks/evaluation.py [parity] [speed] [frechet] [memory] [--images FILE.npy] [--reference FILE.npy]
    [--count 200] [--output benchmarks/results/evaluation.json]

The images are uint8 (N, 3, H, W); without files, random ones. Inception's weights are random (He et al. 1502.01852).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.utils import extract_featuresdict_from_input_id

from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.images import write_array
from sagd_cli.evaluation.fidelity import evaluate
from sagd_cli.evaluation.measures import Measures
from sagd_cli.features.extractor import load_extractor
from sagd_cli.features.image_source import data_source
from sagd_cli.features.moments import Gaussian
from sagd_cli.features.survey import Surveyor, Wanted
from sagd_cli.metrics.frechet import frechet_distance
from sagd_cli.plugin.registry import registry
from sagd_cli.system.console import Output
from sagd_cli.system.devices import keep_freed_memory, peak_memory

CPU, QUIET = torch.device("cpu"), Output(quiet=True)
LAYERS = ("64", "2048")
DIMENSIONS = 2048
TURNS = 3


def random_weights(path: Path) -> None:
    """Write weights of Inception-v3 that keep the scale of what passes through them."""
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    network = inception_v3(weights=None, aux_logits=False, num_classes=1008, init_weights=False)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), path)


def folder_of(images: np.ndarray, path: Path) -> str:
    """Write images as PNG files and return the folder."""
    path.mkdir()
    for index, image in enumerate(images):
        write_array(np.ascontiguousarray(image), path / f"{index:06d}.png")
    return str(path)


def printed_json(command: list[str]) -> dict[str, Any]:
    """Run a command and parse the object it prints last."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout[done.stdout.index("{") :]))


def parity(folders: list[str], weights: Path, count: int) -> dict[str, Any]:
    """Relative differences of the figures of the two command lines, by layer."""
    names = {
        "fd": "frechet_inception_distance",
        "kid": "kernel_inception_distance_mean",
        "kid_std": "kernel_inception_distance_std",
        "precision": "precision",
        "recall": "recall",
    }
    rows = {}
    for layer in LAYERS:
        reader = [
            "--feature-extractor",
            "inception-v3-compat",
            "--feature-extractor-weights-path",
            str(weights),
        ]
        layers = [word for metric in ("fid", "kid", "prc") for word in (f"--feature-layer-{metric}", layer)]
        subset = ["--kid-subset-size", str(min(1000, count // 2))]
        sides = ["--input1", folders[0], "--input2", folders[1]]
        theirs = printed_json(
            ["fidelity", *sides, "--fid", "--kid", "--prc", "-c", "-j", *reader, *layers, *subset]
        )
        measures = [
            "--metrics",
            "fid,kid,prc",
            "--features",
            "inception",
            "--layer",
            layer,
            "--weights",
            str(weights),
        ]
        command = [sys.executable, "-m", "sagd_cli", "fid", *folders, *measures]
        ours = printed_json([*command, "--device", "cpu", "--no-cache", "--json"])
        rows[layer] = {
            key: {
                "sagd": ours[key],
                "torch_fidelity": theirs[name],
                "relative": abs(ours[key] / theirs[name] - 1),
            }
            for key, name in names.items()
        }
    return rows


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def speed(folder: str, weights: Path, count: int) -> dict[str, Any]:
    """Images a second through Inception to its 2,048 features, of both in turns, the same files read by each."""
    layer = str(DIMENSIONS)
    theirs = FeatureExtractorInceptionV3("inception", [layer], feature_extractor_weights_path=str(weights))
    ours = load_extractor(registry().get("feature", "inception"), {"weights": weights}, (layer,), CPU)
    source = data_source(DatasetConfig(name="folder", options={"path": folder}))

    def torch_fidelity() -> None:
        extract_featuresdict_from_input_id(1, theirs, input1=folder, cuda=False, verbose=False)

    def sagd() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            Surveyor(ours, None, Path(scratch), QUIET).survey(source, Wanted(layer))

    torch_fidelity(), sagd()
    turns = [(seconds(torch_fidelity), seconds(sagd)) for _ in range(TURNS)]
    return {
        "images": count,
        "torch_fidelity": [count / turn[0] for turn in turns],
        "sagd": [count / turn[1] for turn in turns],
        "ratio": statistics.median(turn[0] / turn[1] for turn in turns),
    }


def frechet() -> dict[str, Any]:
    """Seconds of the Fréchet term of 2,048 features by each way, and what each finds."""
    random = np.random.default_rng(0)
    spectrum = np.geomspace(1, 1e-4, DIMENSIONS)
    sides = []
    for _ in range(2):
        features = random.standard_normal((3 * DIMENSIONS, DIMENSIONS)) * np.sqrt(spectrum)
        sides.append((features.mean(axis=0), np.cov(features, rowvar=False)))
    means, (one, two) = [side[0] for side in sides], [side[1] for side in sides]
    rest = np.sum((means[0] - means[1]) ** 2) + np.trace(one) + np.trace(two)
    ways: dict[str, Callable[[], float]] = {
        "eigh": lambda: frechet_distance(*(Gaussian(*map(torch.from_numpy, side), None) for side in sides)),
        "sqrtm": lambda: float(rest - 2 * np.trace(scipy.linalg.sqrtm(one @ two)).real),
        "eigvals": lambda: float(rest - 2 * np.sqrt(np.linalg.eigvals(one @ two).astype(complex)).real.sum()),
    }
    rows = {}
    for name, way in ways.items():
        found: list[float] = []
        took = seconds(lambda way=way, found=found: found.append(way()))  # type: ignore[misc]
        rows[name] = {"seconds": took, "fd": found[0]}
    versions = {
        "scipy": scipy.__version__,
        "sqrtm_over_eigh": rows["sqrtm"]["seconds"] / rows["eigh"]["seconds"],
    }
    return {**rows, **versions}


def memory(images: Path, weights: Path, layer: str, metrics: str, count: int | None) -> dict[str, Any]:
    """Peak memory of `fid` over many images, in a process of its own, over that with the model loaded."""
    words = [
        sys.executable,
        __file__,
        "--measure",
        str(images),
        str(weights),
        layer,
        metrics,
        str(count or 0),
    ]
    return printed_json(words)


def measure_memory(images: str, weights: str, layer: str, metrics: str, count: str) -> None:
    """Print what `memory` returns, measured in this process: all images, or the first `count`, beside the first 500."""
    keep_freed_memory()
    plugin = registry().get("feature", "inception" if layer in LAYERS else "pixels")
    options = {"weights": Path(weights)} if layer in LAYERS else {}
    load_extractor(plugin, options, (layer,), CPU)
    before = peak_memory(CPU)
    file = DatasetConfig(name="npy", options={"path": images})
    source, few = data_source(file, count=int(count) or None), data_source(file, count=500)
    start = time.perf_counter()
    how = Measures(
        metrics=tuple(metrics.split(",")), features=plugin.name, layer=layer, options=options, cache=False
    )
    evaluate(source, few, how, CPU, QUIET)
    row = {
        "images": source.count,
        "features": f"{plugin.name} {layer}",
        "metrics": metrics,
        "model_mib": before / 2**20,
        "over_the_model_mib": (peak_memory(CPU) - before) / 2**20,
        "seconds": time.perf_counter() - start,
    }
    print(json.dumps(row))


def main() -> None:
    """Run the parts that are named, all by default, print them and add them to --output."""
    if sys.argv[1:2] == ["--measure"]:
        measure_memory(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", default=["parity", "speed", "frechet", "memory"])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--layers", default="32,64", help="of memory: 32 is that of pixels")
    parser.add_argument("--metrics", default="fid", help="of memory")
    parser.add_argument("--first", type=int, help="of memory: so many images; all by default")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the commands do
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        weights = place / "inception.pth"
        random_weights(weights)
        random = np.random.default_rng(0)
        files = []
        for name, given in (("images", options.images), ("reference", options.reference)):
            files.append(given or place / f"{name}.npy")
            if given is None:
                np.save(files[-1], random.integers(0, 256, (options.count, 3, 32, 32), dtype=np.uint8))
        firsts = [np.load(file, mmap_mode="r")[: options.count] for file in files]
        folders = [folder_of(first, place / f"folder{k}") for k, first in enumerate(firsts)]
        for part in options.parts:
            if part == "parity":
                results["parity"] = parity(folders, weights, options.count)
            elif part == "speed":
                results["speed"] = speed(folders[0], weights, options.count)
            elif part == "frechet":
                results["frechet"] = frechet()
            elif part == "memory":
                for layer in options.layers.split(","):
                    key = f"memory {layer} {options.metrics} {options.first or 'all'}"
                    results[key] = memory(files[0], weights, layer, options.metrics, options.first)
            else:
                parser.error(f"there is no part {part}")
        print(json.dumps(results, indent=1))
    if options.output:
        old = json.loads(options.output.read_text()) if options.output.exists() else {}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(old | results, indent=1) + "\n")


if __name__ == "__main__":
    main()
