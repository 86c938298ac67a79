#!/usr/bin/env bash
# ImageNet in latents, whole: images to one file, to latents with their classes, train, sample pictures, measure.
# Usage: [VARIABLE=VALUE ...] examples/imagenet-latents.sh [OUTPUT]
# As it is, it makes a small fake of ImageNet and of an autoencoder, and takes a minute. The real thing, on a large GPU:
#   IMAGENET=ILSVRC/train AUTOENCODER=DIR SIZE=256 MODEL='--preset imagenet256-rae' STEPS=400000 N=50000 SAMPLER_STEPS=50 \
#     WEIGHTS=inception.pth examples/imagenet-latents.sh imagenet
# It needs `sagd` and its `python3` on the PATH. Run again, it goes on where it was stopped; other values of the
# variables need another OUTPUT.
set -euo pipefail
out=${1:-imagenet-latents-output}
IMAGENET=${IMAGENET:-$out/imagenet}          # a folder a class, by WordNet id
AUTOENCODER=${AUTOENCODER:-$out/autoencoder} # a folder of diffusers: AutoencoderKL, AutoencoderRAE
SIZE=${SIZE:-32}                             # side of the images
MODEL=${MODEL:---backbone dit --class-conditional --filter powerlaw:alpha=-0.04 --batch-size 16
    --set backbone.options.depth=2 --set backbone.options.heads=2 --set backbone.options.head_width=16}
STEPS=${STEPS:-20}                           # of the training
N=${N:-100}                                  # samples
SAMPLER_STEPS=${SAMPLER_STEPS:-5}            # network evaluations of a sample
WEIGHTS=${WEIGHTS:-}                         # Inception's, for FID; without them spectra are compared
DEVICE=${DEVICE:-auto}
read -ra model <<<"${MODEL//$'\n'/ }"
features=(--features spectrum)
[[ -n $WEIGHTS ]] && features=(--features inception --weights "$WEIGHTS")
mkdir -p "$out"

fake() { # fake KIND DIR: make what was not given, whole or not at all
    [[ -e $2 || $2 != "$out/$1" ]] && return
    rm -rf "$2.part"
    python3 - "$1" "$2.part" <<'PYTHON'
import sys
from pathlib import Path

kind, folder = sys.argv[1], Path(sys.argv[2])
if kind == "imagenet":
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for wordnet_id in (f"n{1440764 + index:08}" for index in range(10)):
        (folder / wordnet_id).mkdir(parents=True)
        for index in range(20):
            image = Image.fromarray(rng.integers(256, size=(6, 8, 3), dtype=np.uint8))
            image.resize((64, 48), Image.Resampling.BICUBIC).save(folder / wordnet_id / f"{wordnet_id}_{index}.JPEG")
else:
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        scaling_factor=8.5,
    ).save_pretrained(folder)
PYTHON
    mv "$2.part" "$2"
}

fake imagenet "$IMAGENET"
fake autoencoder "$AUTOENCODER"

images=$out/images.npy latents=$out/latents.npy
[[ -e $images ]] || sagd data prepare "$IMAGENET" --size "$SIZE" --mode rgb --output "$images"
[[ -e $latents ]] || sagd data encode "$images" --autoencoder "$AUTOENCODER" --device "$DEVICE" --output "$latents"

sagd train "${model[@]}" --dataset "$latents" --steps "$STEPS" --device "$DEVICE" --output "$out/run"
[[ -e $out/samples.png ]] || sagd sample "$out/run" -n "$N" --steps "$SAMPLER_STEPS" --device "$DEVICE" \
    --output "$out/samples" --grid "$out/samples.png"
sagd fid "$out/samples" "$images" "${features[@]}" --device "$DEVICE" --output "$out/run/evaluation/fid.json" --force
