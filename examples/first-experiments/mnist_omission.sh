#!/usr/bin/env bash
# Noise of rho >= 0.5 added to MNIST, and left out again, in the two ways of the method (docs/omission.md):
#   images   restored by `sagd omit`: band removed, Wiener, learned from the damaged images alone, from clean ones of the same kind
#   models   trained on damaged images alone: with white noise, and with none in the band (the paper's form)
# Models of restored images, and all bands, are in examples/paper/omission_mnist.sh, which takes an hour.
# Usage: [VARIABLE=VALUE ...] examples/first-experiments/mnist_omission.sh [OUTPUT]        (a quarter of an hour of two CPU cores)
# It needs `sagd` and its `python3` on the PATH and MNIST in $SAGD_DATA, ./data or MNIST=mnist:root=DIR. Run again, it goes on where
# it was stopped. It ends with OUTPUT/table.md and OUTPUT/report.html.
set -euo pipefail
here=$(dirname "$0")
out=${1:-first-experiments-output/mnist-omission}
MNIST=${MNIST:-mnist}
MNIST_TEST=mnist:test,${MNIST#mnist}
MNIST_TEST=${MNIST_TEST/,:/,}
MNIST_TEST=${MNIST_TEST%,}
IMAGES=${IMAGES:-19200}      # budget of each model, counted with repetition
STEPS=${STEPS:-160}          # of what `sagd omit` learns
N=${N:-1000}                 # samples of each model
band=(--band high --strength 0.5)
mkdir -p "$out/done"

once() { # once NAME COMMAND...: run it unless it was already run to its end
    [[ -e $out/done/$1 ]] && return
    echo "== $1" >&2
    "${@:2}"
    touch "$out/done/$1"
}

first() { # first DATA COUNT FILE.npy: the first images of a data set
    sagd data prepare "$1" --output "$out/all.npy" --force
    python3 -c 'import sys, numpy as np; np.save(sys.argv[3], np.load(sys.argv[1])[: int(sys.argv[2])])' "$out/all.npy" "$2" "$3"
    rm "$out/all.npy"
}

folder() { # folder FILE.npy DIR: images as PNG files
    sagd data prepare "$1" --output "$2" --force
}

as_array() { # as_array FOLDER FILE.npy: a folder of images as floats on [-1, 1], not clipped as 8 bits would
    python3 - "$@" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np

from sagd_cli.data.folders import list_images
from sagd_cli.data.images import read_image
from sagd_cli.data.ranges import image_signal

np.save(sys.argv[2], [image_signal(read_image(path).pixels) for path in list_images(Path(sys.argv[1]))])
PYTHON
}

omit() { # omit NAME OPTION...: restore the damaged test images; the result goes where `sagd report` finds it
    sagd omit "$out/damaged" "${band[@]}" --truth "$out/clean" --output "$out/$1" --force --record "$out/records/$1.json" "${@:2}"
}

model() { # model NAME DATA OPTION...: train on DATA and measure
    sagd train --config "$here/mnist.yaml" --dataset "$2" --set training.images="$IMAGES" --output "$out/$1" "${@:3}"
}

measure() { # measure NAME OPTION...: the samples of a model beside the clean test digits, 8-bit as those are
    sagd sample "$out/$1" -n "$N" --format npz --output "$out/$1/samples/all" --force "${@:2}"
    sagd data prepare "$out/$1/samples/all/samples.npz" --pixels --output "$out/$1/samples/pixels.npy" --force
    sagd fid "$out/$1/samples/pixels.npy" "$MNIST_TEST" --spectra --output "$out/$1/evaluation/test.json" --force
}

once test first "$MNIST_TEST" 200 "$out/test.npy"
once train first "$MNIST" 4000 "$out/train.npy"
once clean folder "$out/test.npy" "$out/clean"
once damaged sagd corrupt "$out/clean" "${band[@]}" --output "$out/damaged" --force
once notch omit notch --estimate notch
once wiener omit wiener --estimate wiener
once self omit self-supervised --steps "$STEPS"
once reference omit reference --reference "$out/train.npy" --steps "$STEPS" --save-model "$out/restorer" \
    --figure "$out/omission.png"
mkdir -p "$out/restorer/evaluation" "$out/restorer/figures"
cp "$out"/records/*.json "$out/restorer/evaluation/"
cp "$out/omission.png" "$out/restorer/figures/"

once train-clean folder "$out/train.npy" "$out/train-clean"
once train-damaged sagd corrupt "$out/train-clean" "${band[@]}" --seed 1 --output "$out/train-damaged" --force
once damaged-array as_array "$out/train-damaged" "$out/train-damaged.npy"
once as-floats as_array "$out/train-clean" "$out/train-clean.npy"

once model-clean model clean-model "$out/train-clean.npy" --filter white
once model-standard model standard "$out/train-damaged.npy" --filter white
once model-omitted model omitted "$out/train-damaged.npy" --filter white --omit-band high
for name in clean-model standard; do once "fid-$name" measure "$name"; done
once fid-omitted measure omitted --fill mean

python3 - "$out" <<'PYTHON'
import json
import sys
from pathlib import Path

out = Path(sys.argv[1])
lines = ["| images | PSNR (dB) | SSIM |", "| --- | --- | --- |"]
for name in ("notch", "wiener", "self-supervised", "reference"):
    found = json.loads((out / "records" / f"{name}.json").read_text())
    if len(lines) == 2:
        lines.append(f"| damaged | {found['psnr_before_mean']:.1f} | {found['ssim_before_mean']:.3f} |")
    lines.append(f"| {name} | {found['psnr_mean']:.1f} | {found['ssim_mean']:.3f} |")
lines += ["", "| model | distance | by chance | KID | power, low | mid | high |", "| --- | --- | --- | --- | --- | --- | --- |"]
for name in ("clean-model", "standard", "omitted"):
    found = json.loads((out / name / "evaluation" / "test.json").read_text())
    ratios = " | ".join(f"{found['spectra']['bands'][band]['ratio']:.2f}" for band in ("low", "mid", "high"))
    lines.append(f"| {name} | {found['fd']:.1f} | {found['fd_floor']:.2f} | {found['kid']:.3f} | {ratios} |")
(out / "table.md").write_text("\n".join(lines) + "\n")
print((out / "table.md").read_text())
PYTHON
sagd report "$out/restorer" "$out/standard" "$out/omitted" "$out/clean-model" --output "$out/report.html" --force
