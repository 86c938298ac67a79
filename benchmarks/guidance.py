"""What classes and guidance do on a run on the digits: how many images are read as asked for, and at what cost.

python benchmarks/guidance.py RUN [--scales 0,0.5,1,1.5,2,3] [--output benchmarks/results/guidance.json]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.svm import SVC

from sagd_cli.datasets.loading import load_images
from sagd_cli.evaluation.fidelity import evaluate
from sagd_cli.evaluation.measures import Measures
from sagd_cli.features.image_source import array_source
from sagd_cli.run.folder import open_run
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.system.console import Output
from sagd_cli.system.devices import keep_freed_memory

IMAGES, FIRST_SEED = 1000, 10_000
CPU, QUIET = torch.device("cpu"), Output(quiet=True)


def rows_of(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Images as the classifier takes them, (N, pixels)."""
    return images.reshape(len(images), -1) / 255


def main() -> None:
    """Print one line for each scale, and write JSON where --output says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--scales", default="0,0.5,1,1.5,2,3")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the commands do
    run = open_run(options.run, QUIET)
    data = load_images(run.config.dataset)
    held_out = load_images(run.config.dataset.model_copy(update={"split": "test"}))
    classifier = SVC(C=10).fit(rows_of(data.images), data.labels)
    real = classifier.score(rows_of(held_out.images), held_out.labels)
    print(f"held-out images read as they are labelled: {real:.1%}")
    seeds, rows = range(FIRST_SEED, FIRST_SEED + IMAGES), []
    for scale in map(float, options.scales.split(",")):
        generator = ImageGenerator(run.model(CPU), sampling_of(run.config, {"guidance": scale}))
        images = generator.draw(seeds)
        labels = ImageGenerator(run.model(CPU), run.config.sampling).labels(seeds)
        read = float(classifier.score(rows_of(images), labels))
        sides = array_source("samples", images), array_source(run.config.dataset.name, data.images)
        found = evaluate(*sides, Measures(("fid",), cache=False), CPU, QUIET)
        rows.append({"guidance": scale, "read_as_asked": read, "fd": found["fd"]})
        print(
            f"guidance {scale:4g}  read as asked {read:6.1%}  {found['label']} {found['fd']:.3f}", flush=True
        )
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        about = {"images": IMAGES, "held_out_accuracy": real, "config": run.config.document()}
        options.output.write_text(json.dumps({**about, "scales": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
