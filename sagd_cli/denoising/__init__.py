"""One denoiser for noise of every spectrum: its preconditioning, the images' spectrum, training (docs/theory.md, 9)."""
