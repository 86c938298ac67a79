"""Print the estimate and the growth of resident memory over two training steps: PRESET BATCH CxHxW."""

import json
import resource
import sys
from pathlib import Path

import torch

from sagd_cli.config.layers import resolve
from sagd_cli.datasets.loading import DataSize
from sagd_cli.diffusion.loss import DiffusionLoss
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.model.network import new_backbone
from sagd_cli.model.state import TrainingState
from sagd_cli.spectral.noise import SpectralNoise
from sagd_cli.system.devices import keep_freed_memory, peak_memory
from sagd_cli.training.batches import Batch
from sagd_cli.training.cost import estimate_cost
from sagd_cli.training.loop import Callbacks, run_loop

LIBRARIES_ONLY = {
    "backbone.options": {"channels": [8], "layers_per_block": 1, "attention": [False]},
    "training.batch_size": 1,
    "training.images": 2,
}


def train(config, shape):
    state = TrainingState(new_backbone(config.backbone, shape, 0), config.training, torch.device("cpu"))
    loss = DiffusionLoss(
        ForwardProcess(make_schedule("linear"), SpectralNoise(config.filter.weights(shape[1:])))
    )
    batch = Batch(torch.zeros(config.training.batch_size, *shape))
    run_loop(state, lambda step, places: batch, loss, config.training, Callbacks())


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main(preset, batch_size, shape):
    keep_freed_memory()
    flags = {"training.batch_size": batch_size, "training.images": 2 * batch_size}
    config = resolve(flags, preset=preset)
    estimate = estimate_cost(config, DataSize(1, shape), torch.device("cpu"))
    train(resolve(LIBRARIES_ONLY), (1, 8, 8))
    before = resident()
    train(config, shape)
    measured = peak_memory(torch.device("cpu")) - before
    print(json.dumps({"estimate": estimate.memory, "measured": measured}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), tuple(int(n) for n in sys.argv[3].split("x")))
