"""A network that knows images plus noise confined to a band (MATH: 6., uses 2 and 3)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sagd_cli.config import BackboneConfig, TrainingConfig
from sagd_cli.console import Output
from sagd_cli.diffusion.denoiser import NoiseDenoiser, as_network
from sagd_cli.diffusion.loss import NoiseLoss
from sagd_cli.diffusion.schedule import Schedule, make_schedule
from sagd_cli.errors import Interrupted
from sagd_cli.signals import stop_on_signal
from sagd_cli.spectral.noise import SpectralNoise
from sagd_cli.training.loop import Callbacks, TrainingState, fit
from sagd_cli.training.run import build_backbone
