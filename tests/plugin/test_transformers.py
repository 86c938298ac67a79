"""DINOv2 and CLIP as features: the networks, their files, what is refused, and the figures' names. Random weights."""

import hashlib
import pickle

import pytest
import torch
from safetensors.torch import save_file
from sagd_plugins.features import clip, dinov2
from torch import nn
from torch.nn import functional
from torch_fidelity import feature_extractor_clip

from sagd_cli.errors import DataError, UsageError
from sagd_cli.features.extractor import load_extractor
from sagd_cli.plugin.registry import registry

CPU = torch.device("cpu")


def random_state(shapes, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=draw) / 8 for name, shape in shapes.items()}


def dino_state(width=128, blocks=2, positions=37, patch=14):
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + positions**2, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for k in range(blocks):
        for name, (out, into) in {
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items():
            shapes |= {f"blocks.{k}.{name}.weight": (out, into), f"blocks.{k}.{name}.bias": (out,)}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            shapes[f"blocks.{k}.{name}"] = (width,)
    return random_state(shapes)


def clip_state(width=64, blocks=1, patch=16, side=2, dimensions=8):
    shapes = {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (1 + side**2, width),
        "visual.proj": (width, dimensions),
        "visual.conv1.weight": (width, 3, patch, patch),
        "text_projection": (width, dimensions),
        "logit_scale": (),
        "transformer.resblocks.0.ln_1.weight": (width,),
        "ln_final.weight": (width,),
    }
    for name in (
        "ln_pre",
        "ln_post",
        *(f"transformer.resblocks.{k}.ln_{i}" for k in range(blocks) for i in (1, 2)),
    ):
        shapes |= {f"visual.{name}.{kind}": (width,) for kind in ("weight", "bias")}
    for k in range(blocks):
        block = f"visual.transformer.resblocks.{k}"
        for name, (out, into) in {
            "attn.in_proj_": (3 * width, width),
            "attn.out_proj.": (width, width),
            "mlp.c_fc.": (4 * width, width),
            "mlp.c_proj.": (width, 4 * width),
        }.items():
            shapes |= {f"{block}.{name}weight": (out, into), f"{block}.{name}bias": (out,)}
    return random_state(shapes)


def plain_dino(state, images, width=128, heads=2):
    """DINOv2 as its paper and its code have it, step by step."""
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = functional.interpolate(images.float(), (224, 224), mode="bicubic", antialias=True)
    images = (images / 255 - mean) / deviation

    def linear(x, name):
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x, name):
        return functional.layer_norm(x, (width,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    patches = functional.conv2d(
        images, *(state[f"patch_embed.proj.{k}"] for k in ("weight", "bias")), stride=14
    )
    x = torch.cat([state["cls_token"].expand(len(images), -1, -1), patches.flatten(2).mT], dim=1)
    places = state["pos_embed"][:, 1:].reshape(1, 37, 37, width).permute(0, 3, 1, 2)
    places = functional.interpolate(places, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic")
    x = x + torch.cat([state["pos_embed"][:, :1], places.flatten(2).mT], dim=1)
    for k in range(2):
        block = f"blocks.{k}"
        parts = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv")
        q, key, value = parts.reshape(len(x), -1, 3, heads, 64).permute(2, 0, 3, 1, 4)
        mixed = (torch.softmax(q @ key.mT / 64**0.5, dim=-1) @ value).transpose(1, 2).reshape(x.shape)
        x = x + state[f"{block}.ls1.gamma"] * linear(mixed, f"{block}.attn.proj")
        hidden = functional.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + state[f"{block}.ls2.gamma"] * linear(hidden, f"{block}.mlp.fc2")
    return norm(x, "norm")[:, 0]


PIXELS = torch.randint(0, 256, (2, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def extractor(name, path):
    plugin = registry().get("feature", name)
    return load_extractor(plugin, {"weights": path}, plugin.layers, CPU)


def test_dinov2_is_the_network_of_its_paper_in_either_format(tmp_path):
    state = dino_state()
    torch.save(state, tmp_path / "dino.pth")
    save_file(state, tmp_path / "dino.safetensors")
    one, other = (extractor("dinov2", tmp_path / f"dino.{kind}") for kind in ("pth", "safetensors"))
    found = one([*PIXELS.numpy()])["dinov2"]
    torch.testing.assert_close(found, plain_dino(state, PIXELS), rtol=1e-4, atol=1e-4)
    assert one.weights_sha256 == other.weights_sha256
    assert "224x224" in one.receipt("dinov2")["preprocessing"]


def program_of(state):
    """A program of TorchScript that holds the weights `state`, as OpenAI's files do."""
    root = nn.Module()
    for name, value in state.items():
        *path, last = name.split(".")
        place = root
        for part in path:
            if not hasattr(place, part):
                place.add_module(part, nn.Module())
            place = getattr(place, part)
        place.register_buffer(last, value)
    return torch.jit.script(root)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_clip_reads_openais_own_file_and_plain_weights(tmp_path, monkeypatch):
    path, state = tmp_path / "clip.pt", clip_state()
    program_of(state).save(path)
    save_file(state, tmp_path / "clip.safetensors")
    with pytest.raises(DataError, match="none of those that OpenAI published"):
        extractor("clip", path)
    known = {"clip-tiny": {"hash": hashlib.sha256(path.read_bytes()).hexdigest()}}
    monkeypatch.setattr(feature_extractor_clip, "MODEL_METADATA", known)
    monkeypatch.setitem(feature_extractor_clip.MODEL_URLS, "clip-tiny", "")
    theirs = feature_extractor_clip.FeatureExtractorCLIP("clip-tiny", ["clip"], str(path))(PIXELS)[0]
    for name in ("clip.pt", "clip.safetensors"):
        assert torch.equal(extractor("clip", tmp_path / name)([*PIXELS.numpy()])["clip"], theirs)


@pytest.mark.parametrize("name", ["dinov2", "clip"])
def test_what_is_no_file_of_these_weights_is_refused(name, tmp_path):
    build = {"dinov2": dinov2, "clip": clip}[name].build
    options = registry().get("feature", name).options
    with pytest.raises(UsageError, match="which are not part of sagd") as asked:
        build(options(), (name,))
    assert "--weights FILE" in asked.value.hint
    with pytest.raises(DataError, match="cannot read the weights"):
        build(options(weights=tmp_path / "absent.pth"), (name,))
    for text, content in {
        "holds more than tensors": pickle.dumps(print),
        "does not hold the weights of": saved({"fc.weight": torch.zeros(2, 2)}, tmp_path),
    }.items():
        (tmp_path / "other.pth").write_bytes(content)
        with pytest.raises(DataError, match=text):
            build(options(weights=tmp_path / "other.pth"), (name,))


def saved(state, folder):
    torch.save(state, folder / "saved")
    return (folder / "saved").read_bytes()


def test_other_dinov2_networks_are_refused(tmp_path):
    for state in (dino_state(patch=16), {**dino_state(), "blocks.0.mlp.fc1.weight": torch.zeros(300, 128)}):
        save_file(state, tmp_path / "other.safetensors")
        with pytest.raises(DataError, match="DINOv2 of patches of 14"):
            extractor("dinov2", tmp_path / "other.safetensors")


def test_the_figures_have_the_names_of_their_features(sagd, tmp_path):
    save_file(clip_state(), tmp_path / "clip.safetensors")
    result = sagd(
        *("fid", "digits:test", "digits", "-n", 8, "--features", "clip", "--metrics", "fid", "--no-cache"),
        *("--weights", tmp_path / "clip.safetensors", "--json"),
    )
    assert result.json["label"] == "FD-CLIP@8"
    assert result.json["receipt"]["layer"] == "clip" and "bilinear" in result.json["receipt"]["preprocessing"]
