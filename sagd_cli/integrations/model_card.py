"""The model card of an exported run, in Markdown."""

from typing import Any

import numpy as np

from sagd_cli import __version__
from sagd_cli.config.run import SamplingConfig
from sagd_cli.errors import SagdError
from sagd_cli.evaluation.result import read_result
from sagd_cli.evaluation.words import figure_rows
from sagd_cli.model.model import Model
from sagd_cli.run.folder import Run
from sagd_cli.system.console import Output
from sagd_cli.system.yaml import dump_yaml


def sample_command(model: Model, sampling: SamplingConfig) -> str:
    """Return the `sagd sample` whose images equal those of the pipeline."""
    words = ["sagd sample", model.name, "--sampler", sampling.sampler, "--steps", sampling.steps]
    words += ["--spacing trailing"]
    words += ["--eta", sampling.eta] if sampling.sampler == "ddim" and sampling.eta else []
    words += ["--guidance", sampling.guidance] if model.classes is not None else []
    words += ["--ema", model.ema_images] if len(model.config.training.ema_half_life_images) > 1 else []
    words += [] if model.has_pixels else ["--latents"]
    return " ".join(map(str, words))


def _autoencoder(run: Run) -> str:
    """Return the row that tells which autoencoder made the latents of a run, nothing for other data."""
    found = run.latents
    return f"| autoencoder | {found['class']}, sha256 `{found['sha256']}` |\n" if found else ""


def model_card(run: Run, pipeline: Any, command: str, output: Output) -> str:
    """Return the card: what the model is, how to load it, its figures and settings.

    The figures are those of the files in RUN/evaluation. Files there that are no results are named in a warning.
    """
    manifest, shape = run.checkpoint.manifest, "x".join(map(str, run.shape))
    form = "" if run.dtype == np.uint8 else ', output_type="pt"'
    network, scheduler = type(pipeline.network).__name__, type(pipeline.scheduler).__name__
    return f"""---
library_name: diffusers
tags: [sagd]
---
# {run.path.resolve().name}

A diffusion model with spectrally shaped noise, exported by sagd {__version__}: {network} with {scheduler}, for
{manifest.dtype} images of {shape}.

```python
from sagd_cli.integrations.diffusers import SagdPipeline

images = SagdPipeline.from_pretrained("DIR")(seeds=[0, 1, 2, 3]{form}).images
```

On the same kind of device and in fp32, the image of seed S is that of `{command} --seed S`. The noise is in
`sagd_noise.json` and `sagd_noise.safetensors`; with white noise the model gives wrong images.

| | |
| --- | --- |
| filter | `{run.filter.type}`, sha256 `{run.filter.sha256()}` |
| images | {run.config.dataset.subject}, sha256 `{manifest.images_sha256}` |
{_autoencoder(run)}| checkpoint | step {run.checkpoint.step}, digest `{manifest.digest}` |

## Figures

{_figures(run, output)}
## Settings of the training

```yaml
{dump_yaml(run.config.document()).rstrip()}
```
"""


def _figures(run: Run, output: Output) -> str:
    rows = []
    for path in sorted((run.path / "evaluation").glob("*.json")):
        try:
            found = figure_rows(read_result(path))
        except SagdError as error:
            output.warn(f"the model card leaves out {path.name}: {error.message}")
            continue
        rows += [f"| {path.name} | {name} | {value} | {remark} |" for name, value, remark in found]
    if not rows:
        return "None were measured (`sagd fid RUN --output RUN/evaluation/NAME.json`).\n"
    return "\n".join(["| file | figure | value | |", "| --- | --- | --- | --- |", *rows, ""])
