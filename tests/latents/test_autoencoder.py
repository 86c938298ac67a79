"""Autoencoders of local folders: their range and scale, what they take, and folders that are refused."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.autoencoders import tiny_kl
from torch import nn

from sagd_cli.errors import DataError, UsageError
from sagd_cli.latents import autoencoder as room
from sagd_cli.latents.autoencoder import load_autoencoder

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_kl(tmp_path_factory.mktemp("kl"))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def signals(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def test_latents_are_the_mean_of_the_posterior_scaled_and_decoding_undoes_the_scale(folder):
    found, images = load_autoencoder(folder, CPU), signals(2, 3, 16, 12)
    latents = found.encode(images)
    mean = found.network.encode(images).latent_dist.mean
    torch.testing.assert_close(latents, 2.0 * mean)
    torch.testing.assert_close(found.decode(latents), found.network.decode(mean).sample)
    assert latents.shape[1:] == found.latent_shape((3, 16, 12)) == (4, 8, 6)
    assert found.image_shape((4, 8, 6)) == (3, 16, 12)


@pytest.mark.parametrize(
    ("config", "shift", "scale"),
    [
        ({"shift_factor": 0.25}, 0.25, 2.0),
        ({"latents_mean": [1.0, 2, 3, 4], "latents_std": [2.0, 1, 4, 5]}, [1.0, 2, 3, 4], [1, 2, 0.5, 0.4]),
    ],
)
def test_shift_and_statistics_of_the_configuration_count(copy, config, shift, scale):
    plain = load_autoencoder(copy, CPU).encode(signals(1, 3, 8, 8)) / 2.0
    found = load_autoencoder(edit(copy, **config), CPU)
    each = [torch.tensor(values).reshape(-1, 1, 1) for values in (shift, scale)]
    torch.testing.assert_close(found.encode(signals(1, 3, 8, 8)), (plain - each[0]) * each[1])
    torch.testing.assert_close(found.decode((plain - each[0]) * each[1]), found.network.decode(plain).sample)
    assert found.document()["shift"] == shift and found.document()["scale"] == pytest.approx(scale)


def test_the_hash_is_that_of_configuration_and_weights_alone(copy, folder):
    sha256 = load_autoencoder(folder, CPU).sha256
    assert load_autoencoder(edit(copy, _diffusers_version="0", _name_or_path="x"), CPU).sha256 == sha256
    assert load_autoencoder(edit(copy, scaling_factor=1.0), CPU).sha256 != sha256
    edit(copy, scaling_factor=2.0)
    assert load_autoencoder(copy, CPU).sha256 == sha256
    save_file({key: value + 0.1 for key, value in load_file(copy / WEIGHTS).items()}, copy / WEIGHTS)
    assert load_autoencoder(copy, CPU).sha256 != sha256


def test_loading_draws_no_random_number_and_takes_the_part_of_a_pipeline(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "vae")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert load_autoencoder(tmp_path, CPU).sha256 == load_autoencoder(folder, CPU).sha256
    assert torch.rand(1) == expected


def test_other_classes_of_one_latent_serve(tmp_path):
    from diffusers import AutoencoderTiny, VQModel

    AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(tmp_path / "tiny")
    VQModel(
        block_out_channels=(8,), norm_num_groups=4, num_vq_embeddings=8, scaling_factor=0.5
    ).save_pretrained(tmp_path / "vq")
    tiny, quantised = (load_autoencoder(tmp_path / name, CPU) for name in ("tiny", "vq"))
    assert tiny.latent_shape((3, 16, 16)) == (4, 8, 8) and tiny.image_shape((4, 8, 8)) == (3, 16, 16)
    assert quantised.latent_shape((3, 8, 8)) == (3, 8, 8)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((1, 16, 16), "takes images of 3 channels (C, H, W), not images of 1x16x16"),
        ((3, 15, 16), "cannot take images of 3x15x16: it gives 3x14x16 back"),
        ((3, 1, 1), "cannot take images of 3x1x1"),
    ],
)
def test_images_it_cannot_take_are_named(folder, shape, told):
    with pytest.raises(UsageError) as caught:
        load_autoencoder(folder, CPU).latent_shape(shape)
    assert told in caught.value.message


def test_latents_of_other_channels_are_refused(folder):
    with pytest.raises(UsageError, match="has latents of 4 channels, not latents of 3x8x8"):
        load_autoencoder(folder, CPU).image_shape((3, 8, 8))


def test_folders_without_sound_weights_are_refused(copy, tmp_path):
    tensors = load_file(copy / WEIGHTS)
    kept = {key: value for key, value in tensors.items() if key != "encoder.conv_in.bias"}
    save_file({**kept, "stranger": torch.zeros(1)}, copy / WEIGHTS)
    with pytest.raises(DataError, match=r"missing encoder\.conv_in\.bias; unknown stranger"):
        load_autoencoder(copy, CPU)
    save_file({**tensors, "encoder.conv_in.bias": torch.zeros(3)}, copy / WEIGHTS)
    with pytest.raises(DataError, match=r"encoder\.conv_in\.bias"):
        load_autoencoder(copy, CPU)
    (copy / WEIGHTS).write_bytes(b"torn")
    with pytest.raises(DataError, match="cannot be read"):
        load_autoencoder(copy, CPU)
    (copy / WEIGHTS).rename(copy / "diffusion_pytorch_model.bin")
    with pytest.raises(
        UsageError, match=r"only diffusion_pytorch_model\.bin, and reading a pickle"
    ) as caught:
        load_autoencoder(copy, CPU)
    assert "safe_serialization" in caught.value.hint
    with pytest.raises(UsageError, match="holds UNet2DModel, not an autoencoder"):
        load_autoencoder(edit(copy, _class_name="UNet2DModel"), CPU)
    with pytest.raises(UsageError, match="no folder of an autoencoder"):
        load_autoencoder(tmp_path / "nothing", CPU)


class Patches(nn.Module):
    """In place of DINOv2: a class token and four registers, and then a token of each patch."""

    def __init__(self, hidden_size, patch_size):
        super().__init__()
        self.embed = nn.Conv2d(3, hidden_size, patch_size, patch_size)

    def forward(self, images, output_hidden_states):
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        return SimpleNamespace(
            last_hidden_state=torch.cat([torch.full_like(tokens[:, :1], 9).repeat(1, 5, 1), tokens], 1)
        )


@pytest.fixture
def rae(tmp_path, monkeypatch):
    """A folder of an AutoencoderRAE of 16x16 images, 64x4x4 latents; its encoder stands in where there is no other."""
    from diffusers import AutoencoderRAE
    from diffusers.models.autoencoders import autoencoder_rae

    monkeypatch.setattr(
        autoencoder_rae,
        "_build_encoder",
        lambda encoder_type, hidden_size, patch_size, num_hidden_layers: Patches(hidden_size, patch_size),
    )
    monkeypatch.setattr(room, "find_spec", lambda name: name)
    generator = torch.Generator().manual_seed(0)
    mean, std = torch.rand(64, 4, 4, generator=generator), torch.rand(64, 4, 4, generator=generator) + 0.5
    AutoencoderRAE(
        encoder_hidden_size=64,
        encoder_patch_size=2,
        encoder_num_hidden_layers=1,
        encoder_input_size=8,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        patch_size=4,
        latents_mean=mean,
        latents_std=std,
    ).save_pretrained(tmp_path / "rae")
    return tmp_path / "rae"


def test_a_representation_autoencoder_takes_images_on_0_1_and_applies_its_own_statistics(rae):
    found, images = load_autoencoder(rae, CPU), signals(2, 3, 16, 16)
    latents = found.encode(images)
    torch.testing.assert_close(latents, found.network.encode((images + 1) / 2).latent)
    torch.testing.assert_close(found.decode(latents), 2 * found.network.decode(latents).sample - 1)
    assert latents.shape[1:] == found.latent_shape((3, 16, 16)) == (64, 4, 4)
    assert found.image_shape((64, 4, 4)) == (3, 16, 16)
    assert found.document()["class"] == "AutoencoderRAE"


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 16, 24)])
def test_a_representation_autoencoder_resizes_nothing_silently(rae, shape):
    """Its encoder takes images of any sides, and its decoder gives those of one."""
    with pytest.raises(UsageError, match="it gives 3x16x16 back") as caught:
        load_autoencoder(rae, CPU).latent_shape(shape)
    assert "--size 16" in caught.value.hint
    with pytest.raises(UsageError, match=r"(not|cannot take) latents of 64x8x8"):
        load_autoencoder(rae, CPU).image_shape((64, 8, 8))


def test_a_representation_autoencoder_says_what_its_encoder_needs(rae, monkeypatch):
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="transformers, which is not installed") as caught:
        load_autoencoder(rae, CPU)
    assert "sagd[rae]" in caught.value.hint
