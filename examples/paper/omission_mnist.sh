#!/usr/bin/env bash
# The omission study of the SAGD paper (arXiv 2510.09660) on MNIST: training images damaged by noise in one of eight equal
# bands of rho, and what can be learned from them alone. For each band it compares, by Fréchet distance to the test digits,
#   standard   a model of the damaged images, white noise
#   plain      the paper's form: no noise in the band, which in the samples is empty, the mean image's, or drawn by a prior
#   blind      the same with the band hidden from the network too
#   restored   the recommended way: `sagd omit` restores the images, without any clean one; a model of those
# The prior learns the band from the restored images. Nothing but `clean`, the model of undamaged images that is the floor
# of all this, sees an undamaged image. The strength is told, not measured. The restorer is a network as small as the others,
# trained on the damaged images as `sagd omit` would.
# Usage: [VARIABLE=VALUE ...] examples/paper/omission_mnist.sh [OUTPUT]
# The budgets are small, an hour of one core; raise them for models that draw good digits.
# It needs `sagd` and its `python3` on the PATH and MNIST in $SAGD_DATA or ./data. Run again, it goes on where it was
# stopped; other values of the variables need another OUTPUT. It ends with OUTPUT/table.md and OUTPUT/results.json.
set -euo pipefail
export LC_NUMERIC=C
out=${1:-omission-mnist-output}
export BANDS=${BANDS:-0 1 2 3 4 5 6 7}          # k is rho from k/8 to (k+1)/8
export STRENGTH=${STRENGTH:-1}                  # gamma_c, on the [-1, 1] range
export TRAIN_IMAGES=${TRAIN_IMAGES:-1000}       # different images, the first of the 60,000
export TEST_IMAGES=${TEST_IMAGES:-2000}         # test digits that samples are compared with, the first of 10,000
export IMAGES=${IMAGES:-6400}                   # budget of each training, counted with repetition
export SEEDS=${SEEDS:-0 1 2}                    # of the models that are compared, for the mean of their distances
export BATCH=${BATCH:-32}                       # images a step
export N=${N:-500}                              # samples of each model
export STEPS=${STEPS:-10}                       # network evaluations of a sample
export CHANNELS=${CHANNELS:-[16, 32]}           # two widths of every network
export PATCH=${PATCH:-2}                        # side of the squares of pixels that are its channels
DEVICE=${DEVICE:-auto}
mkdir -p "$out/done"

once() { # once NAME COMMAND...: run it unless it was already run to its end, and note its seconds
    [[ -e $out/done/$1 ]] && return
    echo "== $1" >&2
    local start=$SECONDS
    "${@:2}"
    echo $((SECONDS - start)) >"$out/done/$1"
}

first() { # first DATA COUNT FILE.npy: the first images of a data set
    sagd data prepare "$1" --output "$out/all.npy" --force
    python3 -c 'import sys, numpy as np; np.save(sys.argv[3], np.load(sys.argv[1])[: int(sys.argv[2])])' "$out/all.npy" "$2" "$3"
    rm "$out/all.npy"
}

first_images() { # the images of the study, as PNG files, and those they are judged by
    first mnist:test "$TEST_IMAGES" "$out/test.npy"
    first mnist "$TRAIN_IMAGES" "$out/first.npy"
    sagd data prepare "$out/first.npy" --output "$out/clean-images" --force
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

train() { # train NAME DATA OPTION...: train NAME on DATA
    once "${1//\//-}-train" sagd train --filter white --dataset "$2" --images "$IMAGES" --batch-size "$BATCH" --lr 3e-3 \
        --set "backbone.options.channels=$CHANNELS" --set "backbone.options.patch=$PATCH" \
        --set training.warmup_images=$((IMAGES / 20)) --set training.ema_half_life_images=$((IMAGES / 20)) \
        --device "$DEVICE" --output "$out/$1/run" "${@:3}"
}

model() { # model NAME DATA OPTION...: train NAME to make images like DATA
    train "$1" "$2" --prediction edm "${@:3}"
}


score() { # score NAME SAMPLES OPTION...: draw SAMPLES from the model NAME and measure them
    local path=$out/$1/$2
    local name=${1//\//-}-$2
    once "$name-sample" sagd sample "$out/$1/run" -n "$N" --sampler dpmpp --steps "$STEPS" --device "$DEVICE" \
        --format npz --output "$path" --force "${@:3}"
    once "$name-pixels" sagd data prepare "$path/samples.npz" --pixels --output "$path/pixels.npy" --force
    once "$name-fid" measure "$path"
}

measure() {
    sagd fid "$1/pixels.npy" "$out/test.npy" --features digits-cnn --metrics fid --device "$DEVICE" --json >"$1/fid.json"
}

once clean-files first_images
once clean-array as_array "$out/clean-images" "$out/clean-images.npy"
for seed in $SEEDS; do
    model "clean/seed$seed" "$out/clean-images.npy" --seed "$seed"
    score "clean/seed$seed" samples
done
for k in $BANDS; do
    band=$(printf %.3f:%.3f "$((125 * k))e-3" "$((125 * k + 125))e-3")
    here=band$k damage=(--band "$band" --strength "$STRENGTH" --force)
    images=$out/$here/damaged restored=$out/$here/images-restored

    once "$here-files" sagd corrupt "$out/clean-images" "${damage[@]}" --output "$images"
    once "$here-array" as_array "$images" "$images.npy"
    train "$here/restorer" "$images.npy" --restore "$band" --set restoration.damage="$STRENGTH" \
        --set "restoration.strengths=[$STRENGTH, $STRENGTH]"
    once "$here-omit" sagd omit "$images" "${damage[@]}" --model "$out/$here/restorer/run" --device "$DEVICE" \
        --output "$restored"
    once "$here-restored-array" as_array "$restored" "$restored.npy"

    train "$here/prior" "$restored" --restore "$band" --set "restoration.strengths=[0.01, 100]"

    for seed in $SEEDS; do
        standard=$here/standard/seed$seed recommended=$here/restored/seed$seed
        plain=$here/plain/seed$seed blind=$here/blind/seed$seed
        model "$standard" "$images.npy" --seed "$seed"
        model "$recommended" "$restored.npy" --seed "$seed"
        model "$plain" "$images.npy" --seed "$seed" --omit-band "$band"
        model "$blind" "$images.npy" --seed "$seed" --omit-band "$band" --blind
        score "$standard" samples
        score "$recommended" samples
        for form in "$plain" "$blind"; do
            score "$form" zero --fill zero
            score "$form" mean --fill mean
            score "$form" prior --fill prior --prior "$out/$here/prior/run"
        done
    done
done

python3 - "$out" <<'PYTHON' # OUTPUT/results.json and OUTPUT/table.md
import json
import os
import sys
from pathlib import Path
from statistics import mean

out = Path(sys.argv[1])
FILLED = [(form, fill) for form in ("plain", "blind") for fill in ("zero", "mean", "prior")]
SETTINGS = "STRENGTH TRAIN_IMAGES TEST_IMAGES IMAGES BATCH N STEPS CHANNELS PATCH".split()


def distances(name, samples="samples"):
    files = [out / name / f"seed{seed}" / samples / "fid.json" for seed in os.environ["SEEDS"].split()]
    return [json.loads(file.read_text())["fd"] for file in files]


def row(k):
    found = {name: distances(f"band{k}/{name}") for name in ("standard", "restored")}
    found |= {f"{form}, {fill}": distances(f"band{k}/{form}", fill) for form, fill in FILLED}
    return {"band": [k / 8, (k + 1) / 8], "fd": found}


rows = [row(k) for k in sorted(map(int, os.environ["BANDS"].split()))]
won = [mean(row["fd"]["restored"]) < mean(row["fd"]["standard"]) for row in rows]
results = {
    "settings": {name.lower(): json.loads(os.environ[name]) for name in SETTINGS},
    "seconds": sum(int(file.read_text()) for file in (out / "done").iterdir()),
    "clean": distances("clean"),
    "bands": rows,
    "restored_below_standard": sum(won),
}
(out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
lines = [["rho", *rows[0]["fd"]], ["---"] * (1 + len(rows[0]["fd"]))]
for row in rows:
    means = [mean(values) for values in row["fd"].values()]
    figures = [f"**{value:.1f}**" if value == min(means) else f"{value:.1f}" for value in means]
    lines.append([f"{round(8 * row['band'][0])}/8 to {round(8 * row['band'][1])}/8", *figures])
table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
(out / "table.md").write_text(table)
print(f"{table}\nclean: {mean(results['clean']):.1f}; restored below standard in {sum(won)} of {len(rows)} bands")
PYTHON
