"""Draw docs/figures/score.png: how the score of the noised data tends to that of the data, filter by filter.

python docs/draw_score.py
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sagd_cli.figures.style import COLOURS, DASHES, save_figure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "diffusion"))

import test_score as law  # noqa: E402  (the figure shows what the test holds)


def curve(name: str, mean: law.torch.Tensor, to_all: bool) -> tuple[list[float], list[float]]:
    """Return sigma and the relative error of the score, against the data's projected on the support or all of it."""
    sigmas, errors = [], []
    for t in np.linspace(0.55, 0, 23):
        x0, x_t, alpha, sigma, w = law.noised(float(t), name, mean)
        ours = law.from_noise(law.expected_noise(x_t, mean, alpha, sigma, w), sigma, w)
        exact = law.score(x0, mean, law.POWER)
        limit = exact if to_all else law.projected(exact, w)
        sigmas.append(float(sigma))
        errors.append(float((ours - limit).norm() / limit.norm()))
    return sigmas, errors


def main() -> None:
    """Write the figure."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (title, mean) in zip(panels, law.MODES.items(), strict=True):
        for index, name in enumerate(law.FILTERS):
            label = f"{name}, to the projected score" if name == "gap" else name
            axes.plot(*curve(name, mean, False), color=COLOURS[index], ls=DASHES[index], label=label)
        axes.plot(*curve("gap", mean, True), color="0.5", lw=1, label="gap, to the whole score")
        axes.set(
            xscale="log", yscale="log", xlabel="sigma_t (schedule edm, alpha = 1)", title=f"Data with {title}"
        )
        axes.grid(color="0.9")
    panels[0].set_ylabel("relative error of the score (root mean square)")
    panels[0].legend(fontsize=8)
    save_figure(figure, ROOT / "docs" / "figures" / "score.png", force=True)


if __name__ == "__main__":
    main()
