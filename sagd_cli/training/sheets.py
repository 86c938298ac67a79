"""Contact sheets of samples while a run trains, always with the same seeds and the averaged network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sagd_cli.data.images import contact_sheet, write_array
from sagd_cli.data.ranges import ToBytes
from sagd_cli.errors import SagdError
from sagd_cli.latents.decoding import find_decoder
from sagd_cli.model.state import TrainingState
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.system.console import Output
from sagd_cli.training.task import Task

SEEDS = range(64)


@dataclass(frozen=True)
class ContactSheets:
    """Writes RUN/samples/step-N.png at regular steps and at the last step.

    `at_once` images are drawn at a time. `show` gets the path and the step of each sheet. The training is not changed
    by it: the random numbers of a sample depend on its seed alone.
    """

    run: Path
    task: Task
    at_once: int
    output: Output
    show: Callable[[Path, int], None]

    def begin(self, state: TrainingState) -> bool:
        """Print what the sheets of the rest of the training cost; return whether sheets are drawn.

        Warns when the data cannot be drawn as images.
        """
        settings = self.task.config.training
        generators: list[ImageGenerator] = []
        if settings.sample_images:
            with self._warned("no contact sheets"):
                generators = [self._generator(state)]
        if not generators:
            return False
        generator = generators[0]
        if not generator.is_drawable:
            self.output.warn(
                f"no contact sheets: fields of {generator.dtype} of shape {generator.shape} cannot be drawn as images"
            )
            return False
        sheets = sum(map(self.is_due, range(state.step + 1, settings.steps + 1)))
        evaluations = sheets * len(SEEDS) * generator.network_evaluations
        training = max(1, (settings.steps - state.step) * settings.batch_size)
        self.output.note(
            f"{sheets} contact sheets of {len(SEEDS)} images: {evaluations:,} network evaluations, "
            f"{evaluations / training:.1%} of training's {training:,}"
            + ("" if generator.has_pixels else "; values beyond black and white are clipped in them")
        )
        return True

    def is_due(self, step: int) -> bool:
        """Whether a sheet is drawn after `step` steps."""
        settings = self.task.config.training
        every = max(1, settings.sample_images // settings.batch_size)
        return step % every == 0 or step == settings.steps

    def draw(self, state: TrainingState) -> None:
        """Draw and write the sheet of this step."""
        path = self.run / "samples" / f"step-{state.step:08d}.png"
        devices = [state.device] if state.device.type == "cuda" else []
        with self._warned(f"no contact sheet of step {state.step}"), torch.random.fork_rng(devices=devices):
            parts = self._generator(state).batches(SEEDS, self.at_once, Output(quiet=True))
            images = np.concatenate([pixels for _, pixels in parts])
            path.parent.mkdir(exist_ok=True)
            write_array(contact_sheet(ToBytes()(0, images)), path)
            self.show(path, state.step)

    def _generator(self, state: TrainingState) -> ImageGenerator:
        """Return what draws the images; an autoencoder is read anew each time, and so takes no memory in between."""
        decoder = find_decoder(self.task.data.latents, self.run, None, state.device)
        model = self.task.model(state, str(self.run))
        return ImageGenerator(model, self.task.config.sampling, None, None, decoder)

    @contextmanager
    def _warned(self, what: str) -> Iterator[None]:
        """Make an error a warning that begins with `what`, so that the training goes on."""
        try:
            yield
        # torch raises a RuntimeError when memory is short
        except (OSError, SagdError, RuntimeError, MemoryError) as error:
            self.output.warn(f"{what}: {error}")
