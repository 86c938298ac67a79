"""The only list of the commands and plug-ins that come with the program. Imports nothing."""

# Name to one-line help, so that `sagd --help` imports no command.
COMMANDS = {
    "filter": "Design, list, inspect, fit and compare spectral filters.",
    "spectrum": "Measure the power spectrum of data: radial average, power law, peaks.",
    "train": "Train a diffusion model with shaped noise; the same command again resumes.",
    "sample": "Draw images from a trained run.",
    "corrupt": "Add noise confined to a frequency band to images.",
    "omit": "Remove corruption confined to known frequencies from images.",
    "fid": "Fréchet and kernel distances between two sets of images.",
    "sweep": "Train and measure a grid of settings, with seeds; resumable.",
    "report": "Lay runs and sweeps out on one self-contained page.",
    "data": "List, prepare and inspect data sets.",
    "plugins": "List and check plug-ins.",
    "config": "Show and validate configurations; print their JSON Schema.",
    "doctor": "Say what this installation can do.",
}


# The only place that names built-in plug-ins.
BUILTIN_MODULES = (
    "sagd_plugins.filters.white",
    "sagd_plugins.filters.powerlaw",
    "sagd_plugins.filters.exponential",
    "sagd_plugins.filters.lowpass",
    "sagd_plugins.filters.highpass",
    "sagd_plugins.filters.bandpass",
    "sagd_plugins.filters.bandstop",
    "sagd_plugins.filters.twoband",
    "sagd_plugins.filters.notch",
    "sagd_plugins.filters.stripe",
    "sagd_plugins.filters.radial",
    "sagd_plugins.filters.matched",
    "sagd_plugins.filters.learned",
    "sagd_plugins.datasets.digits",
    "sagd_plugins.datasets.mnist",
    "sagd_plugins.datasets.cifar10",
    "sagd_plugins.datasets.folder",
    "sagd_plugins.datasets.npy",
    "sagd_plugins.datasets.patches",
    "sagd_plugins.backbones.unet",
    "sagd_plugins.backbones.dit",
    "sagd_plugins.backbones.residual",
    "sagd_plugins.features.digits",
    "sagd_plugins.features.inception",
    "sagd_plugins.features.dinov2",
    "sagd_plugins.features.clip",
    "sagd_plugins.features.spectrum",
    "sagd_plugins.features.pixels",
)
