"""What each tracker does with the figures and the pictures of a training, by its own library."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from sagd_cli.system.yaml import dump_yaml

Scalars = Mapping[str, float]

_PROJECT, TENSORBOARD = "sagd", "tensorboard"
WAIT_SECONDS = 10  # for a service that does not answer


@dataclass(frozen=True)
class Tracked:
    """The training that a tracker follows: its folder, its configuration, and the tracker's own run to go on with.

    `id` is what the tracker called that run, or None at the first time.
    """

    run: Path
    config: Mapping[str, Any]
    id: str | None = None

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.run.resolve().name

    def own_id(self) -> str:
        """Return the id to go on with, or a new one that no other run has."""
        return self.id or f"{self.name}-{uuid4().hex[:8]}"


class Tracker(Protocol):
    """What a tracker does after it has begun with a `Tracked`; `id` names its run."""

    id: str

    def scalars(self, figures: Scalars, step: int) -> None:
        """Take the figures of a record."""

    def image(self, name: str, path: Path, step: int) -> None:
        """Take a picture, a PNG file."""

    def end(self, final: Scalars, step: int) -> None:
        """Take the final figures, none when the training goes on another time, and end."""


class TensorBoard:
    """Event files in RUN/tensorboard, by torch's SummaryWriter."""

    def __init__(self, tracked: Tracked) -> None:
        """Write the configuration at the first time."""
        from torch.utils.tensorboard import SummaryWriter

        self.id = TENSORBOARD
        self._writer: Any = SummaryWriter(str(tracked.run / TENSORBOARD))
        if tracked.id is None:
            self._writer.add_text("config", f"```\n{dump_yaml(dict(tracked.config))}\n```", 0)

    def scalars(self, figures: Scalars, step: int) -> None:
        """Write one point of each figure's curve."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def image(self, name: str, path: Path, step: int) -> None:
        """Write the pixels."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def end(self, final: Scalars, step: int) -> None:
        """Write what is left."""
        self.scalars(final, step)
        self._writer.close()


class WeightsAndBiases:
    """A run of wandb. Without WANDB_MODE and without a key it is offline, in RUN/wandb, and asks nothing."""

    def __init__(self, tracked: Tracked) -> None:
        """Begin a run, or go on with it."""
        import wandb

        self.id, self._wandb = tracked.own_id(), wandb
        environment = os.environ
        self._run: Any = wandb.init(
            project=environment.get("WANDB_PROJECT", _PROJECT),
            name=environment.get("WANDB_NAME", tracked.name),
            id=self.id,
            resume="allow",
            dir=environment.get("WANDB_DIR", str(tracked.run)),
            mode=environment.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline"),
            config=dict(tracked.config),
            settings=wandb.Settings(
                console="off", silent=True, init_timeout=WAIT_SECONDS, finish_timeout=WAIT_SECONDS
            ),
        )

    def scalars(self, figures: Scalars, step: int) -> None:
        """Log the figures."""
        self._run.log(dict(figures), step=step)

    def image(self, name: str, path: Path, step: int) -> None:
        """Log the picture."""
        self._run.log({name: self._wandb.Image(str(path))}, step=step)

    def end(self, final: Scalars, step: int) -> None:
        """Put the final figures into the summary."""
        self._run.summary.update(dict(final))
        self._run.finish()


class Trackio:
    """A run of trackio in RUN/trackio, or in TRACKIO_DIR; on a Space or a server only if the environment says so."""

    def __init__(self, tracked: Tracked) -> None:
        """Begin a run, or go on with it. trackio takes the folder when it is imported."""
        os.environ.setdefault("TRACKIO_DIR", str((tracked.run / "trackio").resolve()))
        import trackio
        from huggingface_hub import constants

        self.id, self._trackio = tracked.own_id(), trackio
        offline = constants.HF_HUB_OFFLINE
        # It asks the hub for the user's name, also for a local run.
        constants.HF_HUB_OFFLINE = offline or not {"TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"} & {*os.environ}
        try:
            self._run: Any = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
                name=self.id,
                resume="allow",
                config=dict(tracked.config),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        finally:
            constants.HF_HUB_OFFLINE = offline

    def scalars(self, figures: Scalars, step: int) -> None:
        """Log the figures."""
        self._run.log(dict(figures), step=step)

    def image(self, name: str, path: Path, step: int) -> None:
        """Log the picture."""
        self._run.log({name: self._trackio.Image(str(path))}, step=step)

    def end(self, final: Scalars, step: int) -> None:
        """Log the final figures and write what is left."""
        if final:
            self.scalars(final, step)
        self._trackio.finish()


class MLflow:
    """A run of MLflow in RUN/mlruns, or where MLFLOW_TRACKING_URI says."""

    def __init__(self, tracked: Tracked) -> None:
        """Begin a run with the configuration as parameters, or go on with it."""
        for name, value in (
            ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0"),
            ("MLFLOW_HTTP_REQUEST_TIMEOUT", str(WAIT_SECONDS)),
            ("MLFLOW_ALLOW_FILE_STORE", "true"),  # a folder is fine for one run, and needs no database
            ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ):
            os.environ.setdefault(name, value)
        from mlflow import entities
        from mlflow.tracking import MlflowClient

        local = (tracked.run / "mlruns").resolve().as_uri()
        self._client: Any = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", local))
        self._metric = entities.Metric
        if tracked.id is not None:
            self.id = tracked.id
            self._client.update_run(self.id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        self.id = self._client.create_run(experiment, run_name=tracked.name).info.run_id
        parameters = [entities.Param(key, str(value)[:500]) for key, value in _leaves(tracked.config)]
        self._client.log_batch(self.id, params=parameters[:100])  # as many as one call takes
        self._client.log_dict(self.id, dict(tracked.config), "config.yaml")

    def scalars(self, figures: Scalars, step: int) -> None:
        """Log the figures."""
        now = int(1000 * time.time())
        self._client.log_batch(self.id, [self._metric(name, v, now, step) for name, v in figures.items()])

    def image(self, name: str, path: Path, step: int) -> None:
        """Keep the file among the artifacts."""
        self._client.log_artifact(self.id, str(path), name)

    def end(self, final: Scalars, step: int) -> None:
        """Log the final figures; a run without them was stopped."""
        self.scalars(final, step)
        self._client.set_terminated(self.id, "FINISHED" if final else "KILLED")


def _leaves(document: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Return the settings of a nested document, with dotted names."""
    pairs: list[tuple[str, Any]] = []
    for key, value in document.items():
        pairs += _leaves(value, f"{above}{key}.") if isinstance(value, Mapping) else [(above + key, value)]
    return pairs
