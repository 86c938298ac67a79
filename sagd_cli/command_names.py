"""The built-in commands, known without importing them."""

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
