"""How good samplers are on trained runs: the Fréchet distance to the data of each, over runs that differ by their seed.

python benchmarks/samplers.py RUN... [--samplers dpmpp:20,dpmpp:20:karras] [--output benchmarks/results/samplers.json]
"""

import argparse
import json
import platform
import statistics
from datetime import date
from pathlib import Path

import torch

from sagd_cli.evaluation.fidelity import evaluate
from sagd_cli.evaluation.measures import Measures
from sagd_cli.evaluation.sources import run_source
from sagd_cli.features.image_source import data_source
from sagd_cli.run.folder import Run, open_run
from sagd_cli.sampling.generator import sampling_of
from sagd_cli.system.console import Output
from sagd_cli.system.devices import choose_device, keep_freed_memory

SAMPLERS = (
    "dpmpp:10,dpmpp:20,dpmpp:50,unipc:20,heun:20,dpmpp-sde:20,ddim:20,ddim:50,ddpm:20,ddpm:250,ddpm:1000"
)
IMAGES, FIRST_SEED = 1000, 10_000
QUIET = Output(quiet=True)


def distance(run: Run, sampler: str, evaluations: int, spacing: str, device: torch.device) -> float:
    """The Fréchet distance of the images of the same seeds, whatever the sampler, to the run's data."""
    sampling = sampling_of(run.config, {"sampler": sampler, "steps": evaluations, "spacing": spacing})
    samples = run_source(run, IMAGES, FIRST_SEED, device, sampling)
    found = evaluate(samples, data_source(run.config.dataset), Measures(("fid",), cache=False), device, QUIET)
    return float(found["fd"])


def main() -> None:
    """Print a line a sampler, and write JSON where --output says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--samplers", default=SAMPLERS, help="NAME:EVALUATIONS[:SPACING], joined by commas")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    device = choose_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()  # as the commands do
    runs = [open_run(path, QUIET) for path in options.runs]
    rows = []
    for item in options.samplers.split(","):
        name, evaluations, spacing = (*item.split(":"), "auto")[:3]
        found = [distance(run, name, int(evaluations), spacing, device) for run in runs]
        mean, spread = statistics.mean(found), statistics.stdev(found) if len(found) > 1 else 0.0
        figures = {"fd": found, "mean": mean, "std": spread}
        rows.append({"sampler": name, "evaluations": int(evaluations), "spacing": spacing, **figures})
        print(f"{name:<10} {evaluations:>5} {spacing:<9}  {mean:.3f} +- {spread:.3f}  {found}", flush=True)
    if options.output:
        machine = {"machine": platform.machine(), "torch": torch.__version__, "device": str(device)}
        about = {"date": date.today().isoformat(), **machine, "images": IMAGES, "runs": len(runs)}
        config = runs[0].config.document()
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps({**about, "config": config, "samplers": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
