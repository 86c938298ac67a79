"""Tiny models of diffusers with random weights, saved as people save them."""

import json

import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel, UNet2DModel


def tiny_unet(channels=3, seed=0, **changes):
    torch.manual_seed(seed)
    settings = {
        "sample_size": 8,
        "in_channels": channels,
        "out_channels": channels,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "attention_head_dim": 8,
    }
    return UNet2DModel(**settings | changes).eval()


def tiny_dit(channels=4, classes=5, seed=0, **changes):
    """A DiT whose last layers, zero in a new one, are random."""
    torch.manual_seed(seed)
    settings = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "in_channels": channels,
        "out_channels": 2 * channels,
        "num_layers": 1,
        "sample_size": 8,
        "num_embeds_ada_norm": classes,
    }
    model = DiTTransformer2DModel(**settings | changes).eval()
    for layer in (model.proj_out_1, model.proj_out_2):
        torch.nn.init.normal_(layer.weight, std=0.2)
    return model


def saved(folder, model, scheduler=None):
    """Save a pipeline of the model and the scheduler (DDIM by default) in `folder` and return it."""
    part = "unet" if isinstance(model, UNet2DModel) else "transformer"
    scheduler = scheduler or DDIMScheduler()
    model.save_pretrained(folder / part)
    scheduler.save_pretrained(folder / "scheduler")
    index = {"_class_name": "DDIMPipeline", part: ["diffusers", type(model).__name__]}
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def rewritten(path, **changes):
    """Change keys of a JSON file; None removes one."""
    document = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
