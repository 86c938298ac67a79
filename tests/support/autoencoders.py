"""Tiny autoencoders with random weights, saved as diffusers saves them."""

from pathlib import Path

import torch


def tiny_kl(path: Path, seed: int = 0, **config) -> Path:
    """Save an AutoencoderKL that makes (4, H / 2, W / 2) of RGB images."""
    from diffusers import AutoencoderKL

    settings = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "mid_block_add_attention": False,
        "scaling_factor": 2.0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoencoderKL(**{**settings, **config}).save_pretrained(path)
    return path
