"""Inputs of the fuzz: sound and hostile files of every kind that the program reads, small ones."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from support.image_files import noise, save
from support.settings import TINY

from sagd_cli.config.layers import resolve
from sagd_cli.system.console import Output
from sagd_cli.training.train import run_training

BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
)
DOCUMENTS = {
    "filter.yaml": "type: bandpass\noptions: {low: 0.2, high: 0.7, floor: 0.1}\n",
    "white.yaml": "type: white\n",
    "omitting.yaml": "type: powerlaw\noptions: {alpha: -0.2}\nomit: 0.5:0.7\n",
    "bomb.yaml": BOMB,
    "nan.yaml": "type: powerlaw\noptions: {alpha: .nan}\n",
    "negative.yaml": "type: bandpass\noptions: {low: -1, high: 0.5, floor: -3}\n",
    "zero.yaml": "type: twoband\noptions: {gamma_low: 0, gamma_high: 0}\n",
    "typed.yaml": "type: [white]\noptions: 7\n",
    "no-type.yaml": "options: {low: 0.2}\n",
    "list.yaml": "- a\n- b\n",
    "empty.yaml": "",
    "deep.yaml": "{a: " * 3000,
    "tag.yaml": "type: !!python/object/apply:os.system [ls]\n",
    "date.yaml": "type: 2020-01-01\n2020-01-02: x\n",
    "huge.yaml": "training: {images: 1e999, batch_size: 10000000000000000000000000000000}\n",
    "wrong.yaml": "training: {seed: {x: 1}, learning_rate: -1}\nbackbone: unet\n",
    "null.yaml": "training: null\nfilter: null\n",
    "array.json": "[1, 2]",
    "deep.json": "[" * 5000,
    "nan.json": '{"fd": NaN, "kid": Infinity}',
    "other.json": '{"a": {"fd": "x"}}',
    "text.txt": "not an image\n",
    "prints.py": "print('loaded')\n",
    "raises.py": "class Odd(BaseException): pass\nraise Odd('x')\n",
    "exits.py": "import sys\nsys.exit(7)\n",
}
NAMES = (
    "with space",
    "new\nline",
    "comma,colon:x",
    "ünï☃",
    "-dash",
    "esc\x1b[31m",
    "[red]x",
    "a=b",
    "%s",
)


def make_inputs(folder: Path) -> None:
    """Fill `folder` with all of them; the same bytes each time."""
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "binary.yaml").write_bytes(bytes(range(128, 256)))
    _make_images(folder)
    _make_arrays(folder)
    _make_runs(folder)


def _make_images(folder: Path) -> None:
    for name in (
        "grey",
        "colours",
        "floats",
        "unit",
        "mixed",
        "classes/a b",
        "classes/c",
        "hostile",
        "names",
        "empty",
        "nopictures",
    ):
        (folder / name).mkdir(parents=True)
    for i in range(5):
        save(folder / f"grey/{i}.png", noise((12, 16, 1), "uint8", i) // 2 + 64)
        save(folder / f"classes/a b/{i}.png", noise((8, 8, 1), "uint8", i))
        save(folder / f"classes/c/{i}.png", noise((8, 8, 1), "uint8", 9 + i))
    for i in range(3):
        save(folder / f"colours/{i}.png", noise((16, 16, 3), "uint8", i))
        unit = np.random.default_rng(i).random((16, 12, 1), np.float32)
        save(folder / f"unit/{i}.tif", unit)
        save(folder / f"floats/{i}.tif", 255 * unit)
    kinds = {"g8": (1, "uint8"), "ga8": (2, "uint8"), "rgba8": (4, "uint8"), "g16": (1, "uint16")}
    for name, (samples, depth) in {**kinds, "rgb16": (3, "uint16")}.items():
        save(folder / f"mixed/{name}.png", noise((11, 13, samples), depth))
    save(folder / "mixed/f32.tiff", noise((9, 10, 3), "float32"))
    save(folder / "mixed/g12in16.tif", noise((9, 10, 1), "uint16") // 16)
    save(folder / "mixed/hounsfield.tif", 300 * noise((9, 10, 1), "float32"))
    save(folder / "mixed/b8.bmp", noise((7, 9, 3), "uint8"))
    save(folder / "mixed/p8.pgm", noise((7, 9, 1), "uint8"))
    save(folder / "row.png", noise((1, 17, 1), "uint8"))
    save(folder / "column.tif", noise((17, 1, 1), "float32"))
    save(folder / "dot.png", noise((1, 1, 1), "uint8"))
    save(folder / "flat.png", np.full((8, 8, 1), 7, np.uint8))
    save(folder / "large.png", noise((64, 48, 1), "uint8"))
    smooth = Image.fromarray(noise((6, 6, 3), "uint8")).resize((24, 24))
    for name in ("photo.jpg", "web.webp", "palette.gif", "colours.ppm"):
        smooth.save(folder / f"mixed/{name}")
    smooth.convert("CMYK").save(folder / "hostile/cmyk.jpg")
    _make_hostile_images(folder)


def _make_hostile_images(folder: Path) -> None:
    hostile, sound = folder / "hostile", (folder / "grey/0.png").read_bytes()
    for name, data in {
        "empty.png": b"",
        "truncated.png": sound[: len(sound) // 2],
        "text.png": b"not an image",
        "wrong.jpg": sound,
        "sound.png": sound,
        "broken.tif": (folder / "unit/0.tif").read_bytes()[:60],
    }.items():
        (hostile / name).write_bytes(data)
    (hostile / "folder.png").mkdir()
    (hostile / "loop.png").symlink_to("loop.png")
    (hostile / "dangling.png").symlink_to("nowhere.png")
    os.mkfifo(hostile / "pipe.png")
    holes = noise((8, 8, 1), "float32")
    holes[0, 0] = -9999
    save(hostile / "nodata.tif", holes)
    (folder / "loop").symlink_to("loop")
    for name in NAMES:
        (folder / "names" / f"{name}.png").write_bytes(sound)
    (folder / "nopictures/notes.txt").write_text("nothing here")


def _make_arrays(folder: Path) -> None:
    rng = np.random.default_rng(0)
    bytes_ = rng.integers(0, 256, (12, 1, 8, 8)).astype(np.uint8)
    floats = rng.normal(0, 0.5, (12, 1, 8, 8)).astype(np.float32)
    broken = floats.copy()
    broken[3, 0, 2, 2] = np.nan
    arrays = {
        "u8": bytes_,
        "f32": floats,
        "rgb": rng.integers(0, 256, (6, 3, 8, 8)).astype(np.uint8),
        "signals": rng.normal(0, 0.5, (8, 1, 32)).astype(np.float32),
        "f64": floats.astype(np.float64),
        "nhwc": rng.integers(0, 256, (6, 8, 8, 3)).astype(np.uint8),
        "nhw": floats[:, 0],
        "nan": broken,
        "none": bytes_[:0],
        "one": bytes_[:1],
        "scalar": np.array(3.0),
        "bool": bytes_ > 127,
        "complex": floats * 1j,
        "text": np.array(["a", "b"]),
        "big-endian": floats.astype(">f4"),
        "u16": bytes_.astype(np.uint16) * 257,
        "huge": 1e38 * floats,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "object.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    whole = (folder / "u8.npy").read_bytes()
    (folder / "truncated.npy").write_bytes(whole[:300])
    (folder / "boast.npy").write_bytes(
        whole.replace(b"(12, 1, 8, 8), ", b"(99999, 1, 8, 8999), ")[: len(whole)]
    )
    (folder / "empty.npy").write_bytes(b"")
    np.savez(folder / "labelled.npz", images=bytes_, labels=np.arange(12) % 3)
    np.savez(folder / "unnamed.npz", bytes_)
    np.savez(folder / "short.npz", images=bytes_, labels=np.arange(5))
    np.savez(folder / "statistics.npz", mu=np.zeros(64), sigma=np.eye(64))
    np.savez(folder / "nan-statistics.npz", mu=np.full(64, np.nan), sigma=np.eye(63))
    (folder / "text.npz").write_text("not an archive")


def _make_runs(folder: Path) -> None:
    nested: dict[str, dict[str, object]] = {}
    for key, value in TINY.items():
        room, name = key.split(".")
        nested.setdefault(room, {})[name] = value
    tiny = {**nested["training"], "images": 16, "checkpoint_images": 8}
    document = {"backbone": {"options": nested["backbone"]["options"]}, "training": tiny}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(document))
    config = resolve({}, config=document)
    run_training(config, folder / "run", torch.device("cpu"), Output(quiet=True))
    shutil.copytree(folder / "run", folder / "cut")
    for path in (folder / "cut").rglob("model.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    shutil.copytree(folder / "run", folder / "misconfigured")
    (folder / "misconfigured/config.yaml").write_text("filter: {type: white}\n")
    (folder / "no-checkpoint").mkdir()
    shutil.copy(folder / "run/config.yaml", folder / "no-checkpoint")
    receipt = {"generated": {"count": 12}, "reference": {"count": 12, "sha256": "0"}, "features": "pixels"}
    (folder / "half.json").write_text(json.dumps({"label": "fd-pixels@12", "fd": 1.0, "receipt": receipt}))
