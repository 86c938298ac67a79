"""What a person chooses by name: samplers, spacings, schedules, predictions and losses, one record each. No torch.

To add one, write a function or class in its module and add a row here. Settings, help texts and checks read these
tables.
"""

from dataclasses import dataclass

from sagd_cli.system.choices import Choice, choices


@dataclass(frozen=True)
class Accuracy:
    """How exact a sampler is on Gaussian data, with the closed form as the judge (docs/theory.md, section 5).

    `error`: bound of the relative error of the variance after 100 evaluations, or after 50 with `adds_noise`. `left`:
    bound of the share of the error that remains when the step is halved; a method of order p has about 2^-p.
    `adds_noise`: the sampler is stochastic.
    """

    error: float
    left: float
    adds_noise: bool = False


@dataclass(frozen=True)
class SamplerChoice(Choice):
    """A sampler. `build` names a function of (draw, amount, number of steps) that returns a step.

    `amount` is the name of the setting that the sampler reads: eta, churn, or "" for none.
    """

    accuracy: Accuracy
    evaluations_per_step: int = 1
    amount: str = ""

    def steps(self, evaluations: int) -> int:
        """Return the number of steps, at least 1, of a path with at most `evaluations` network evaluations.

        The last step takes one evaluation.
        """
        return max(1, (evaluations - 1) // self.evaluations_per_step + 1)

    def evaluations(self, steps: int) -> int:
        """Return the network evaluations of a path of `steps` steps."""
        return (steps - 1) * self.evaluations_per_step + 1


@dataclass(frozen=True)
class ScheduleChoice(Choice):
    """A schedule. `build` names a function that returns its table of log-SNR, in NumPy.

    With `preserves_variance`, alpha_t^2 + sigma_t^2 = 1; without it, alpha_t = 1. In training, ln sigma is normal with
    the mean and deviation `log_sigma`, or t is uniform (None). `spacing` is the one that a spacing of auto stands for.
    """

    preserves_variance: bool = True
    log_sigma: tuple[float, float] | None = None
    spacing: str = "uniform"


@dataclass(frozen=True)
class PredictionChoice(Choice):
    """What a network predicts.

    With `needs_power`, `build` names a function of (power of the data, noise). Without it, `build` takes no arguments.
    `needs_filter` says that the prediction depends on the filter's weights.
    """

    needs_power: bool = False
    needs_filter: bool = False


_SAMPLERS, _TABLES, _GRIDS, _PREDICTIONS, _LOSSES = (
    f"sagd_cli.diffusion.{module}"
    for module in ("samplers", "schedule_tables", "time_grids", "prediction", "loss")
)

SAMPLERS = choices(
    SamplerChoice("dpmpp", "DPM-Solver++(2M)", f"{_SAMPLERS}:make_dpmpp", Accuracy(5e-3, 0.3)),
    SamplerChoice(
        "dpmpp-sde", "SDE form of dpmpp", f"{_SAMPLERS}:make_dpmpp_sde", Accuracy(0.05, 0.3, adds_noise=True)
    ),
    SamplerChoice("unipc", "UniPC-2", f"{_SAMPLERS}:make_unipc", Accuracy(1e-3, 0.2)),
    SamplerChoice(
        "ddim", "DDIM, random by --eta", f"{_SAMPLERS}:make_ddim", Accuracy(0.08, 0.55), amount="eta"
    ),
    SamplerChoice("ddpm", "ancestral", f"{_SAMPLERS}:make_ddpm", Accuracy(0.25, 0.6, adds_noise=True)),
    SamplerChoice(
        "heun",
        "EDM's second-order sampler, random by --churn",
        f"{_SAMPLERS}:make_heun",
        Accuracy(0.02, 0.3),
        evaluations_per_step=2,
        amount="churn",
    ),
)

SPACINGS = choices(
    Choice("uniform", "equal steps in t", f"{_GRIDS}:uniform_times"),
    Choice("quadratic", "equal steps in the root of t", f"{_GRIDS}:quadratic_times"),
    Choice("karras", "equal steps in (sigma / alpha)^(1/7)", f"{_GRIDS}:karras_times"),
    Choice("log-snr", "equal steps in log-SNR", f"{_GRIDS}:log_snr_times"),
    Choice("trailing", "whole entries of the schedule's table, as in diffusers", f"{_GRIDS}:trailing_times"),
)

SCHEDULES = choices(
    ScheduleChoice("linear", "the DDPM table", f"{_TABLES}:linear_table"),
    # The first uniform steps of the cosine schedule are too long in log-SNR for any solver (docs/theory.md, section 5).
    ScheduleChoice(
        "cosine", "alpha_t^2 falls as a squared cosine", f"{_TABLES}:cosine_table", spacing="log-snr"
    ),
    # Karras et al. 2206.00364, table 1.
    ScheduleChoice(
        "edm",
        "alpha = 1, sigma from 0.002 to 80",
        f"{_TABLES}:edm_table",
        preserves_variance=False,
        log_sigma=(-1.2, 1.2),
    ),
)

PREDICTIONS = choices(
    PredictionChoice("eps", "the noise", f"{_PREDICTIONS}:NoisePrediction"),
    PredictionChoice("x0", "the image", f"{_PREDICTIONS}:ImagePrediction"),
    PredictionChoice("v", "the velocity", f"{_PREDICTIONS}:VelocityPrediction"),
    PredictionChoice(
        "edm", "EDM's preconditioned remainder", f"{_PREDICTIONS}:edm_prediction", needs_power=True
    ),
    PredictionChoice(
        "edm-spectral",
        "edm, preconditioned per frequency",
        f"{_PREDICTIONS}:edm_spectral_prediction",
        needs_power=True,
        needs_filter=True,
    ),
)

LOSSES = choices(
    Choice("plain", "the mean square of the network's own error", f"{_LOSSES}:plain_loss"),
    Choice("whitened", "the mean square of the whitened error in eps", f"{_LOSSES}:whitened_loss"),
    Choice("min-snr", "the error in eps, weighted by min(SNR, 5) / SNR", f"{_LOSSES}:min_snr_loss"),
)
