"""Spectrally anisotropic Gaussian diffusion (arXiv 2510.09660) on the command line and as a library."""

import os

__version__ = "0.1.0"

# torch's OpenMP barrier spins by default: beside any other load on the same cores a step takes 30 times
# longer. The variable is read when torch is first imported, so it is set here, unless the user has set it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
