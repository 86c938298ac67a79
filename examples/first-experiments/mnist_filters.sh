#!/usr/bin/env bash
# Low-pass and power-law noise on MNIST beside white noise: the SAGD paper's first question (arXiv 2510.09660), at a size that two
# CPU cores finish in a quarter of an hour. Every model has the same network, budget, seeds and samples; only its filter differs.
# Usage: [VARIABLE=VALUE ...] examples/first-experiments/mnist_filters.sh [OUTPUT]
# It needs `sagd` on the PATH and MNIST in $SAGD_DATA, ./data or MNIST=mnist:root=DIR. Run again, it goes on where it was stopped.
# It ends with OUTPUT/report.html.
set -euo pipefail
here=$(dirname "$0")
out=${1:-first-experiments-output/mnist-filters}
MNIST=${MNIST:-mnist}
SEEDS=${SEEDS:-0,1,2}
IMAGES=${IMAGES:-19200}      # budget of each training, counted with repetition
N=${N:-1000}                 # samples of each model
JOBS=${JOBS:-2}

mkdir -p "$out"
sagd filter design --type lowpass -o cutoff=0.5 -o floor=0.3 -o transition=0.2 --output "$out/lowpass.yaml" --force
sagd sweep --config "$here/mnist.yaml" --dataset "$MNIST" --set training.images="$IMAGES" \
    --grid "filter=white,powerlaw:alpha=-0.06,powerlaw:alpha=-0.2,$out/lowpass.yaml" --seeds "$SEEDS" \
    -n "$N" --jobs "$JOBS" --output "$out/sweep"
sagd report "$out/sweep" --output "$out/report.html" --force
