"""Networks: sized to the images, refused with a sentence when they do not fit, and able to learn."""

import numpy as np
import pytest
import torch
from torch import nn

from sagd_cli.config.run import BackboneConfig, TrainingConfig
from sagd_cli.diffusion.denoiser import as_network
from sagd_cli.diffusion.loss import DiffusionLoss
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import ConfigError
from sagd_cli.model.network import build_backbone
from sagd_cli.model.state import TrainingState
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.noise import band_noise
from sagd_cli.training.batches import Batch
from sagd_cli.training.loop import Callbacks, run_loop

UNET = {
    "_class_name": "UNet2DModel",
    "layers_per_block": 1,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
}
DIT = {
    "_class_name": "DiTTransformer2DModel",
    "num_attention_heads": 1,
    "attention_head_dim": 8,
    "num_layers": 1,
    "in_channels": 4,
    "out_channels": 8,
    "num_embeds_ada_norm": 3,
}


def build(name, shape, **options):
    return build_backbone(BackboneConfig(name=name, options=options), shape)


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("unet", (1, 8, 8), {}),
        ("unet", (1, 8, 8), {"channels": [8, 8]}),
        ("unet", (1, 8, 8), {"channels": [24, 32]}),
        ("unet", (1, 8, 8), {"channels": [40, 64]}),
        ("unet", (1, 8, 8), {"channels": [128, 136]}),
        ("unet", (3, 12, 20), {"channels": [8, 16], "attention": [False, True]}),
        ("unet", (2, 12, 20), {"channels": [8, 16], "patch": 2}),
        ("dit", (1, 8, 8), {"depth": 1, "heads": 1}),
        ("dit", (3, 12, 12), {"patch": 4, "depth": 1, "heads": 2, "head_width": 8}),
        ("diffusers", (2, 12, 8), {"config": UNET}),
        ("diffusers", (3, 8, 8), {"config": UNET | {"out_channels": 6, "in_channels": 3}}),
        ("diffusers", (4, 8, 8), {"config": DIT}),
    ],
)
def test_the_prediction_has_the_shape_of_its_input_and_depends_on_the_time(name, shape, options):
    network = as_network(build(name, shape, **options).eval())
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    early, late = (network(x, torch.full((2,), t)) for t in (1.0, 900.0))
    assert early.shape == x.shape
    if name == "unet" or options.get("config") is UNET:  # DiT starts at zero by design (adaLN-Zero)
        assert not torch.allclose(early, late)


def test_group_norms_keep_the_type_of_their_input_and_torchs_values():
    """In bfloat16 within its rounding (2^-8 of input, scale, shift and result), in float32 to the bit."""
    norm = build("unet", (1, 8, 8)).mid_block.resnets[0].norm1
    torch.manual_seed(0)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    plain = nn.GroupNorm(norm.num_groups, norm.num_channels, norm.eps)
    plain.load_state_dict(norm.state_dict())
    x = 3 * torch.randn(4, norm.num_channels, 6, 6) + 2
    assert type(norm) is not nn.GroupNorm and torch.equal(norm(x), plain(x))
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(x.bfloat16())
    assert found.dtype == torch.bfloat16
    sizes = plain.weight.abs().view(-1, 1, 1) * (x.abs() + 2) + plain.bias.abs().view(-1, 1, 1) + 1
    assert ((found - plain(x)).abs() <= 2**-8 * 2 * sizes).all()


@pytest.mark.parametrize("side", [8, 28, 32, 64, 256])
def test_every_size_preset_is_written_out(side):
    from sagd_plugins.backbones.unet import UNetOptions, resolve

    options = resolve(UNetOptions(), (3, side, side))
    assert None not in options.model_dump().values()
    assert len(options.attention) == len(options.channels)
    assert side % 2 ** (len(options.channels) - 1) == 0


@pytest.mark.parametrize(
    ("name", "shape", "options", "fragment"),
    [
        ("unet", (1, 9, 8), {}, "needs sides divisible by 2, not 9x8"),
        ("unet", (1, 8, 12), {"channels": [8, 8], "patch": 3}, "needs sides divisible by 6, not 8x12"),
        ("unet", (1, 64), {}, "takes images"),
        ("unet", (1, 8, 8), {"channels": [8, 12]}, "multiples of 8"),
        ("unet", (1, 8, 8), {"attention": [True]}, "the same length"),
        ("residual", (4, 24, 16), {}, "sides divisible by 16, not fields of shape"),
        ("residual", (4, 64), {}, "takes images"),
        ("dit", (1, 8, 10), {}, "square images"),
        ("dit", (1, 9, 9), {}, "divisible by 2"),
        ("diffusers", (3, 8, 8), {}, "builds UNet2DModel and DiTTransformer2DModel, not None"),
        ("diffusers", (3, 64), {"config": UNET}, "takes images"),
        ("diffusers", (3, 9, 8), {"config": UNET}, "sides divisible by 2, not 9x8"),
        ("diffusers", (4, 8, 10), {"config": DIT}, "square images"),
        ("diffusers", (3, 8, 8), {"config": UNET | {"strange": 1}}, "unexpected keyword argument 'strange'"),
        ("diffusers", (3, 8, 8), {"config": UNET | {"time_embedding_type": "fourier"}}, "fourier"),
    ],
)
def test_what_does_not_fit_is_refused(name, shape, options, fragment):
    with pytest.raises(ConfigError, match=fragment):
        build(name, shape, **options)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((4, 32, 16), {"channels": [8, 12, 16, 8], "blocks": 1}),
        ((12, 8, 8), {"channels": [8, 8], "blocks": 2}),
        ((3, 5, 7), {"channels": [8], "blocks": 1, "patch": 1}),
    ],
)
def test_the_residual_network_is_zero_before_training_and_learns_of_all_its_inputs_without_a_time(
    shape, options
):
    network = build("residual", shape, **options).eval()
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(x, torch.zeros(2)), torch.zeros_like(x))
    torch.nn.init.normal_(network.network.tail.weight, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    said = network(x, torch.zeros(2))
    assert said.shape == x.shape and torch.equal(said, network(x, torch.full((2,), 900.0)))
    said.square().sum().backward()
    assert bool((x.grad.abs().amax((0, 2, 3)) > 0).all())
    # It has no normalisation: an image is answered the same in any batch.
    torch.testing.assert_close(network(x[:1], torch.zeros(1)), said[:1])


@pytest.mark.parametrize("name", ["unet", "dit", "residual"])
def test_training_lowers_the_loss(name):
    """On constant images the noise is known exactly, so a network that learns falls well below 1."""
    options = {"depth": 2, "heads": 2, "head_width": 16} if name == "dit" else {"channels": [16, 16]}
    settings = TrainingConfig(
        images=60 * 16, batch_size=16, warmup_images=64, log_steps=20, learning_rate=3e-3
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = TrainingState(build(name, (1, 8, 8), **options), settings, torch.device("cpu"))
    loss = DiffusionLoss(ForwardProcess(make_schedule("linear"), band_noise(Band.parse("0:1"), (8, 8))))
    records = []
    batch = Batch(torch.zeros(16, 1, 8, 8))
    run_loop(state, lambda step, places: batch, loss, settings, Callbacks(record=records.append))
    assert records[-1]["loss"] < 0.5


def test_a_folded_network_sees_squares_of_pixels_as_channels_and_answers_in_their_places():
    """Channel 4 c + 2 i + j of what it sees is the pixel (i, j) of every square of channel c; classes pass through."""
    from sagd_plugins.backbones._folded import Folded

    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x, timestep, labels):
            seen.append((x, labels))
            return x

    x, labels = torch.arange(2 * 3 * 8 * 6.0).view(2, 3, 8, 6), torch.tensor([0, 4])
    assert torch.equal(Folded(Spy(), 2)(x, torch.zeros(2), labels), x)
    ((folded, given),) = seen
    assert folded.shape == (2, 12, 4, 3) and given is labels
    for c, i, j in np.ndindex(3, 2, 2):
        assert torch.equal(folded[:, 4 * c + 2 * i + j], x[:, c, i::2, j::2])


def test_a_folded_network_keeps_its_classes():
    options = {"channels": [8, 8], "patch": 2, "layers_per_block": 1}
    network = build_backbone(BackboneConfig(name="unet", options=options), (1, 8, 8), 3).eval()
    x, t = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.ones(1)
    with torch.no_grad():
        said = [network(x, t, torch.tensor([label])) for label in range(4)]
    assert said[0].shape == x.shape
    assert all(not torch.allclose(said[0], other) for other in said[1:])


def test_classes_of_a_model_of_diffusers_are_those_of_the_data():
    """The label after the last class is "no class": an embedding of its own, or zero where the model has none."""
    x, t = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(1)

    def built(embeddings):
        config = BackboneConfig(name="diffusers", options={"config": UNET | {"num_class_embeds": embeddings}})
        return build_backbone(config, (3, 8, 8), 4).eval()

    for embeddings, found in ((None, 5), (5, 5), (4, 4), (9, 5)):
        assert built(embeddings).class_embedding.num_embeddings == found
    network = built(4)
    with torch.no_grad():
        said = [network(x, t, torch.tensor([label])).sample for label in range(5)]
        assert len({float(each.sum()) for each in said}) == 5
        network.class_embedding.weight[3] = 0
        torch.testing.assert_close(network(x, t, torch.tensor([3])).sample, said[4])
